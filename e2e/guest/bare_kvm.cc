// bare_kvm [OPTIONS] GUEST [COMMAND...]: runs the test guest on plain KVM calls.

#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <mutex>
#include <string>
#include <thread>

#include "e2e/guest/bare_machine.h"

namespace drover {
namespace {

using Clock = std::chrono::steady_clock;

constexpr char kUsage[] =
    "usage: bare_kvm [OPTIONS] GUEST [COMMAND...]\n"
    "Runs the test guest GUEST on plain KVM calls; console on stdin and stdout. Each COMMAND is "
    "one command\n"
    "of the guest, such as 'touch size=64M rate=1000': it goes onto the kernel command line as "
    "do=...\n"
    "  --cpus N         vCPUs, 1 to 254 (1)\n"
    "  --memory MIB     4 to 3072 (128)\n"
    "  --cmdline TEXT   kernel command line in front of the commands\n"
    "  --until TEXT     end with 0 once the console printed a line with TEXT\n"
    "  --timeout SEC    end with 6 after that long (60); 0: never\n"
    "  --first-byte     print the microseconds from main() to the guest's first byte, and end\n"
    "  --no-irqchip     no interrupt controller and timer in the kernel; hlt ends the guest\n"
    "Exit code: 0 power-off, 1 KVM error, 2 usage, 3 reset, 4 halt, 5 triple fault, 6 timeout.\n";

struct Settings {
  BareOptions machine;
  std::string until;
  int timeout_seconds = 60;
  bool first_byte = false;
};

[[noreturn]] void Help() {
  fputs(kUsage, stdout);
  exit(0);
}

[[noreturn]] void Usage(const std::string& error) {
  fprintf(stderr, "bare_kvm: %s\n%s", error.c_str(), kUsage);
  exit(2);
}

long ParseNumber(const char* option, const char* text, long least, long most) {
  char* end;
  const long n = strtol(text, &end, 10);
  if (end == text || *end != 0 || n < least || n > most) {
    Usage(std::string(option) + " must be " + std::to_string(least) + " to " +
          std::to_string(most));
  }
  return n;
}

void ParseOption(int option, Settings* s) {
  switch (option) {
    case 'c':
      s->machine.cpus = ParseNumber("--cpus", optarg, 1, 254);
      break;
    case 'm':
      s->machine.memory_size = ParseNumber("--memory", optarg, 4, 3072) << 20;
      break;
    case 'l':
      s->machine.command_line = optarg;
      break;
    case 'u':
      s->until = optarg;
      break;
    case 't':
      s->timeout_seconds = ParseNumber("--timeout", optarg, 0, 1000000);
      break;
    case 'f':
      s->first_byte = true;
      break;
    case 'n':
      s->machine.irqchip = false;
      break;
    case 'h':
      Help();
    default:
      Usage("bad option");
  }
}

void AddCommand(std::string command, std::string* command_line) {
  std::replace(command.begin(), command.end(), ' ', ',');
  *command_line += (command_line->empty() ? "do=" : " do=") + command;
}

Settings ParseSettings(int argc, char** argv) {
  static constexpr option kOptions[] = {{"cpus", required_argument, nullptr, 'c'},
                                        {"memory", required_argument, nullptr, 'm'},
                                        {"cmdline", required_argument, nullptr, 'l'},
                                        {"until", required_argument, nullptr, 'u'},
                                        {"timeout", required_argument, nullptr, 't'},
                                        {"first-byte", no_argument, nullptr, 'f'},
                                        {"no-irqchip", no_argument, nullptr, 'n'},
                                        {"help", no_argument, nullptr, 'h'},
                                        {}};
  Settings s;
  int option;
  while ((option = getopt_long(argc, argv, "+", kOptions, nullptr)) != -1) ParseOption(option, &s);
  if (optind == argc) Usage("GUEST is missing");
  if (!s.machine.irqchip && s.machine.cpus > 1) Usage("--no-irqchip allows one vCPU");
  s.machine.kernel = argv[optind++];
  while (optind < argc) AddCommand(argv[optind++], &s.machine.command_line);
  return s;
}

void WriteAll(const std::string& text) {
  size_t done = 0;
  while (done < text.size()) {
    const ssize_t n = write(STDOUT_FILENO, text.data() + done, text.size() - done);
    if (n < 0 && errno != EINTR) return;
    if (n > 0) done += n;
  }
}

// Prints the console line by line, and ends the process when the guest or the settings say so.
// Thread-safe: any vCPU's thread or the input's may end it.
class Session {
 public:
  Session(const Settings& settings, Clock::time_point start) : settings_(settings), start_(start) {}

  void OnByte(char c) {
    if (settings_.first_byte) EndAfterFirstByte();
    line_ += c;
    if (c != '\n') return;
    WriteAll(line_);
    const bool found = !settings_.until.empty() && line_.find(settings_.until) != std::string::npos;
    line_.clear();
    if (found) _exit(0);
  }

  [[noreturn]] void End(BareExit exit) {
    static std::mutex once;
    once.lock();
    WriteAll(line_);
    _exit(static_cast<int>(exit));
  }

 private:
  [[noreturn]] void EndAfterFirstByte() {
    const auto elapsed = Clock::now() - start_;
    WriteAll(
        std::to_string(std::chrono::duration_cast<std::chrono::microseconds>(elapsed).count()) +
        "\n");
    _exit(0);
  }

  const Settings& settings_;
  const Clock::time_point start_;
  std::string line_;
};

// Passes stdin to the guest until the timeout; the guest's own end leaves by Session::End.
void FeedInput(BareMachine& machine, Clock::time_point deadline, bool forever) {
  pollfd input = {STDIN_FILENO, POLLIN, 0};
  char bytes[256];
  for (;;) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now());
    if (!forever && left.count() <= 0) return;
    const int timeout = forever ? -1 : static_cast<int>(std::min<long>(left.count() + 1, 1000000));
    if (poll(&input, 1, timeout) <= 0) continue;
    const ssize_t n = read(STDIN_FILENO, bytes, sizeof(bytes));
    if (n > 0) machine.FeedConsole(bytes, n);
    if (n == 0) input.fd = -1;
  }
}

int Run(int argc, char** argv) {
  const auto start = Clock::now();
  const Settings settings = ParseSettings(argc, argv);
  Session session(settings, start);
  BareMachine machine(
      settings.machine, [&](char c) { session.OnByte(c); },
      [&](BareExit exit) { session.End(exit); });
  for (unsigned i = 0; i < settings.machine.cpus; i++) {
    std::thread([&machine, i] { machine.RunVcpu(i); }).detach();
  }
  FeedInput(machine, start + std::chrono::seconds(settings.timeout_seconds),
            settings.timeout_seconds == 0);
  session.End(BareExit::kTimeout);
}

}  // namespace
}  // namespace drover

int main(int argc, char** argv) { return drover::Run(argc, argv); }
