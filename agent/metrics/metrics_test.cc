#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <map>
#include <regex>
#include <set>
#include <sstream>

#include "agent/metrics/agent_metrics.h"
#include "agent/metrics/metrics_server.h"
#include "agent/metrics/process_collector.h"
#include "agent/metrics/vm_collector.h"
#include "agent/service/fake_vm_backend.h"
#include "vmm/base/status_matchers.h"

namespace drover {
namespace {

using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::HasSubstr;

std::string HttpGet(int port, const std::string& path) {
  const Fd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  struct sockaddr_in address = {.sin_family = AF_INET,
                                .sin_port = htons(static_cast<uint16_t>(port)),
                                .sin_addr = {htonl(INADDR_LOOPBACK)}};
  EXPECT_EQ(connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  EXPECT_OK(WriteAll(socket.get(), "GET " + path + " HTTP/1.0\r\nHost: x\r\n\r\n"));
  std::string response;
  char buffer[4096];
  for (ssize_t n; (n = read(socket.get(), buffer, sizeof(buffer))) > 0;)
    response.append(buffer, static_cast<size_t>(n));
  return response;
}

// A scrape, parsed line by line; fails the test for a line that is no exposition format 0.0.4.
struct Scrape {
  explicit Scrape(const std::string& response) {
    std::istringstream in(response.substr(response.find("\r\n\r\n") + 4));
    const std::regex comment(R"(# (HELP|TYPE) ([a-z_:][a-z0-9_:]*) (.+))");
    const std::regex sample(R"re(([a-z_:][a-z0-9_:]*)(\{.*\})? ([-+0-9.eInfNa]+))re");
    std::smatch match;
    for (std::string line; std::getline(in, line);) {
      if (std::regex_match(line, match, comment))
        (match[1] == "HELP" ? help : type)[match[2]] = match[3];
      else if (std::regex_match(line, match, sample))
        values[match[1].str() + match[2].str()] = std::stod(match[3]);
      else
        ADD_FAILURE() << "no metric: " << line;
    }
  }
  std::map<std::string, std::string> help;
  std::map<std::string, std::string> type;
  std::map<std::string, double> values;
};

class MetricsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(
        server_, MetricsServer::Start("127.0.0.1:0",
                                      {metrics_.registry(), std::make_shared<VmCollector>(&gate_),
                                       std::make_shared<ProcessCollector>()}));
  }
  Scrape Get() { return Scrape(HttpGet(server_->port(), "/metrics")); }

  FakeVmBackend backend_;
  BackendGate gate_;
  AgentMetrics metrics_{"0.1.0"};
  std::unique_ptr<MetricsServer> server_;
};

TEST_F(MetricsTest, ShowsBuildReadinessAndTheProcess) {
  metrics_.SetReady(true);
  Scrape scrape = Get();
  EXPECT_EQ(scrape.values.at("drover_ready"), 1);
  EXPECT_GT(scrape.values.at("process_resident_memory_bytes"), 1e6);
  EXPECT_GT(scrape.values.at("process_open_fds"), 3);
  EXPECT_GE(scrape.values.at("process_cpu_seconds_total"), 0);
  EXPECT_NEAR(scrape.values.at("process_start_time_seconds"), static_cast<double>(time(nullptr)),
              3600);
  EXPECT_THAT(HttpGet(server_->port(), "/metrics"),
              AllOf(HasSubstr("drover_build_info{compiler=\""),
                    AnyOf(HasSubstr("GCC "), HasSubstr("Clang "))));
}

TEST_F(MetricsTest, CountsVmsByStateOnceTheyAreKnown) {
  EXPECT_EQ(Get().values.count("drover_vms{state=\"running\"}"), 0u);
  gate_.Open(&backend_);
  for (const char* id : {"a", "b"})
    ASSERT_OK(
        backend_.Create({.id = id, .spec = {.vcpus = 2, .memory_mib = 64, .kernel_path = "/k"}}));
  ASSERT_OK(backend_.Start("a", ""));
  Scrape scrape = Get();
  EXPECT_EQ(scrape.values.at("drover_vms{state=\"running\"}"), 1);
  EXPECT_EQ(scrape.values.at("drover_vms{state=\"created\"}"), 1);
  EXPECT_EQ(scrape.values.at("drover_vms{state=\"failed\"}"), 0);
  EXPECT_EQ(scrape.values.at("drover_host_allocated_memory_bytes"), 128.0 * 1048576);
  EXPECT_EQ(scrape.values.at("drover_host_allocated_vcpus"), 4);
}

TEST_F(MetricsTest, CountsWhatItObserves) {
  EXPECT_EQ(Get().values.at("drover_vm_starts_total{reason=\"\",result=\"success\"}"), 0);
  metrics_.OnStart(std::chrono::milliseconds(4), absl::OkStatus());
  metrics_.OnStart(std::chrono::seconds(1), WithReason(absl::InternalError("x"), "KVM_ERROR"));
  metrics_.OnExit(VmState::kFailed, "TRIPLE_FAULT");
  metrics_.OnAdopted(AdoptionResult::kGone);
  metrics_.OnAdoptionFinished(std::chrono::milliseconds(1500));
  metrics_.OnRpcHandled("drover.v1.VmService", "CreateVm", grpc::StatusCode::INVALID_ARGUMENT,
                        "INVALID_FIELDS");
  metrics_.OnRpcHandled("drover.v1.VmService", "GetVm", grpc::StatusCode::OK, "");
  Scrape scrape = Get();
  const auto& v = scrape.values;
  EXPECT_EQ(v.at("drover_vm_starts_total{reason=\"\",result=\"success\"}"), 1);
  EXPECT_EQ(v.at("drover_vm_starts_total{reason=\"KVM_ERROR\",result=\"failure\"}"), 1);
  EXPECT_EQ(v.at("drover_vm_start_duration_seconds_count"), 1);
  EXPECT_EQ(v.at("drover_vm_start_duration_seconds_bucket{le=\"0.003\"}"), 0);
  EXPECT_EQ(v.at("drover_vm_start_duration_seconds_bucket{le=\"0.005\"}"), 1);
  EXPECT_EQ(v.at("drover_vm_exits_total{reason=\"TRIPLE_FAULT\",state=\"failed\"}"), 1);
  EXPECT_EQ(v.at("drover_adopted_vms_total{result=\"gone\"}"), 1);
  EXPECT_EQ(v.at("drover_adoption_duration_seconds"), 1.5);
  EXPECT_EQ(v.at("drover_vm_creates_total{reason=\"INVALID_FIELDS\",result=\"failure\"}"), 1);
  EXPECT_EQ(v.at("drover_grpc_server_handled_total{grpc_code=\"OK\",grpc_method=\"GetVm\",grpc_"
                 "service=\"drover.v1.VmService\"}"),
            1);
}

// What `promtool check metrics` asks for.
TEST_F(MetricsTest, KeepsPrometheusConventions) {
  gate_.Open(&backend_);
  Scrape scrape = Get();
  for (const auto& [name, type] : scrape.type) {
    const bool ours = name.rfind("drover_", 0) == 0 || name.rfind("process_", 0) == 0;
    EXPECT_TRUE(ours || name.rfind("exposer_", 0) == 0) << name;
    if (!ours) continue;  // the library's own
    EXPECT_THAT(scrape.help[name], ::testing::EndsWith(".")) << name;
    EXPECT_EQ(type == "counter", name.ends_with("_total")) << name;
    EXPECT_FALSE(name.ends_with("_milliseconds") || name.ends_with("_mib")) << name;
  }
}

TEST(MetricsServerTest, RefusesAddressesThatAreNone) {
  for (const char* address : {"", "9464", "host:1", "127.0.0.1:", "127.0.0.1:65536", "1.2.3:4",
                              "127.0.0.1:80s", "0.0.0.0:1,127.0.0.1:2"})
    EXPECT_THAT(MetricsServer::Start(address, {}), StatusIs(absl::StatusCode::kInvalidArgument))
        << address;
  for (const char* address : {":9464", "[::1]:1", "0.0.0.0:0"})
    EXPECT_OK(CheckMetricsAddress(address)) << address;
}

TEST(MetricsServerTest, SaysThatThePortIsTaken) {
  ASSERT_OK_AND_ASSIGN(const auto server, MetricsServer::Start("127.0.0.1:0", {}));
  EXPECT_THAT(MetricsServer::Start("127.0.0.1:" + std::to_string(server->port()), {}),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("in use")));
}

}  // namespace
}  // namespace drover
