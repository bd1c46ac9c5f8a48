#ifndef DROVER_AGENT_CLI_RAW_TERMINAL_H_
#define DROVER_AGENT_CLI_RAW_TERMINAL_H_

#include <termios.h>

namespace drover {

// Raw mode of a terminal, as long as this lives. Does nothing for what is no terminal.
class RawTerminal {
 public:
  explicit RawTerminal(int fd);  // borrowed
  ~RawTerminal();
  RawTerminal(const RawTerminal&) = delete;
  RawTerminal& operator=(const RawTerminal&) = delete;

 private:
  const int fd_;
  bool changed_ = false;
  struct termios before_;
};

// While this lives, SIGINT, SIGTERM, SIGHUP and SIGQUIT make its descriptor readable instead of
// ending the process. One at a time.
class SignalCatcher {
 public:
  // `wake` is an eventfd, borrowed.
  explicit SignalCatcher(int wake);
  ~SignalCatcher();
  SignalCatcher(const SignalCatcher&) = delete;
  SignalCatcher& operator=(const SignalCatcher&) = delete;
  // The last signal caught; 0 for none.
  static int Caught();
};

}  // namespace drover

#endif  // DROVER_AGENT_CLI_RAW_TERMINAL_H_
