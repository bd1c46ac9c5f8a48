#include "agent/metrics/metrics_server.h"

#include <arpa/inet.h>
#include <sys/socket.h>

#include <chrono>
#include <exception>
#include <future>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "vmm/base/fd.h"
#include "vmm/base/status.h"

namespace drover {
namespace {

constexpr char kThreads[] = "2";

bool IsHost(const std::string& host) {
  if (host.empty()) return true;
  struct in_addr v4;
  struct in6_addr v6;
  if (host.size() > 2 && host.front() == '[' && host.back() == ']')
    return inet_pton(AF_INET6, host.substr(1, host.size() - 2).c_str(), &v6) == 1;
  return inet_pton(AF_INET, host.c_str(), &v4) == 1;
}

bool IsPort(const std::string& text) {
  uint32_t port = 0;
  return !text.empty() && absl::ascii_isdigit(text[0]) && absl::SimpleAtoi(text, &port) &&
         port <= 65535;
}

// Makes a connection to this host's `port`, and closes it.
void Touch(int port) {
  const Fd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  struct sockaddr_in address = {.sin_family = AF_INET,
                                .sin_port = htons(static_cast<uint16_t>(port)),
                                .sin_addr = {htonl(INADDR_LOOPBACK)}};
  (void)connect(socket.get(), reinterpret_cast<struct sockaddr*>(&address), sizeof(address));
}

}  // namespace

absl::Status CheckMetricsAddress(const std::string& address) {
  const size_t colon = address.rfind(':');
  if (colon != std::string::npos && IsHost(address.substr(0, colon)) &&
      IsPort(address.substr(colon + 1)))
    return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "\"", address, "\" is no address for metrics: write ADDRESS:PORT, such as 127.0.0.1:9464"));
}

absl::StatusOr<std::unique_ptr<MetricsServer>> MetricsServer::Start(
    const std::string& address,
    std::vector<std::shared_ptr<prometheus::Collectable>> collectables) {
  RETURN_IF_ERROR(CheckMetricsAddress(address));
  const std::string listen = address[0] == ':' ? address.substr(1) : address;
  try {
    auto exposer = std::make_unique<prometheus::Exposer>(
        std::vector<std::string>{"listening_ports", listen, "num_threads", kThreads});
    for (const auto& collectable : collectables) exposer->RegisterCollectable(collectable);
    return std::unique_ptr<MetricsServer>(
        new MetricsServer(std::move(collectables), std::move(exposer)));
  } catch (const std::exception& error) {  // civetweb's
    return absl::UnavailableError(absl::StrCat("cannot serve metrics on ", address,
                                               ": is the port in use? (", error.what(), ")"));
  }
}

// civetweb looks for its end every two seconds, or when a connection comes.
MetricsServer::~MetricsServer() {
  const int own_port = port();
  std::future<void> ended = std::async(std::launch::async, [this] { exposer_.reset(); });
  while (ended.wait_for(std::chrono::milliseconds(10)) != std::future_status::ready)
    Touch(own_port);
}

int MetricsServer::port() const { return exposer_->GetListeningPorts().front(); }

}  // namespace drover
