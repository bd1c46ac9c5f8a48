#include "agent/cli/raw_terminal.h"

#include <errno.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <iterator>

namespace drover {
namespace {

constexpr int kSignals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};

std::atomic<int> g_wake{-1};
std::atomic<int> g_caught{0};
struct sigaction g_before[std::size(kSignals)];

extern "C" void OnSignal(int signal) {
  const int saved = errno;
  g_caught = signal;
  const uint64_t one = 1;
  if (write(g_wake, &one, sizeof(one)) < 0) {
    // Nobody waits any more.
  }
  errno = saved;
}

}  // namespace

RawTerminal::RawTerminal(int fd) : fd_(fd) {
  if (tcgetattr(fd, &before_) != 0) return;
  struct termios raw = before_;
  cfmakeraw(&raw);
  changed_ = tcsetattr(fd, TCSADRAIN, &raw) == 0;
}

RawTerminal::~RawTerminal() {
  if (changed_) tcsetattr(fd_, TCSADRAIN, &before_);
}

SignalCatcher::SignalCatcher(int wake) {
  g_wake = wake;
  g_caught = 0;
  struct sigaction action = {};
  action.sa_handler = OnSignal;
  action.sa_flags = SA_RESTART;
  for (size_t i = 0; i < std::size(kSignals); ++i) sigaction(kSignals[i], &action, &g_before[i]);
}

SignalCatcher::~SignalCatcher() {
  for (size_t i = 0; i < std::size(kSignals); ++i) sigaction(kSignals[i], &g_before[i], nullptr);
  g_wake = -1;
}

int SignalCatcher::Caught() { return g_caught; }

}  // namespace drover
