#ifndef DROVER_AGENT_CLI_UNREACHABLE_H_
#define DROVER_AGENT_CLI_UNREACHABLE_H_

#include <string>

namespace drover {

// What a person is told of a call that did not reach the agent, or whose answer did not come.
struct Unreachable {
  std::string what;
  std::string hint;
};

// Finds out what is the matter at `address` ("unix:PATH" or "HOST:PORT"), by connecting to a unix
// socket: the transport's own words, such as "recvmsg:Invalid argument", tell nobody anything.
Unreachable ExplainUnreachable(const std::string& address);

}  // namespace drover

#endif  // DROVER_AGENT_CLI_UNREACHABLE_H_
