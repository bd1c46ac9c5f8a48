#include "agent/metrics/process_collector.h"

#include <dirent.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "agent/metrics/metric_families.h"
#include "vmm/base/fd.h"

namespace drover {
namespace {

using Families = std::vector<prometheus::MetricFamily>;

// Fields of /proc/self/stat counted from the one after the command: proc(5)'s number less 3.
constexpr size_t kThreads = 20 - 3;
constexpr size_t kStartTicks = 22 - 3;
constexpr size_t kVirtualBytes = 23 - 3;
constexpr size_t kResidentPages = 24 - 3;

std::vector<double> ReadStat() {
  std::vector<double> fields;
  const absl::StatusOr<std::string> stat = ReadSmallFile("/proc/self/stat");
  const size_t end = stat.ok() ? stat->rfind(')') : std::string::npos;
  if (end == std::string::npos) return fields;
  for (const absl::string_view word :
       absl::StrSplit(stat->substr(end + 1), ' ', absl::SkipEmpty())) {
    double value = 0;
    (void)absl::SimpleAtod(word, &value);  // the state is a letter
    fields.push_back(value);
  }
  return fields;
}

// Seconds since the epoch of the process's start, by the clocks of now.
double StartTime(double start_ticks) {
  struct timespec now, uptime;
  clock_gettime(CLOCK_REALTIME, &now);
  clock_gettime(CLOCK_BOOTTIME, &uptime);
  return static_cast<double>(now.tv_sec - uptime.tv_sec) +
         start_ticks / static_cast<double>(sysconf(_SC_CLK_TCK));
}

void AddStat(Families* out) {
  const std::vector<double> stat = ReadStat();
  if (stat.size() <= kResidentPages) return;
  out->push_back(MakeGauge("process_resident_memory_bytes", "Resident memory size in bytes.",
                           stat[kResidentPages] * static_cast<double>(sysconf(_SC_PAGESIZE))));
  out->push_back(MakeGauge("process_virtual_memory_bytes", "Virtual memory size in bytes.",
                           stat[kVirtualBytes]));
  out->push_back(MakeGauge("process_threads", "Number of threads of the process.", stat[kThreads]));
  out->push_back(MakeGauge("process_start_time_seconds",
                           "Start time of the process since the Unix epoch in seconds.",
                           StartTime(stat[kStartTicks])));
}

void AddCpu(Families* out) {
  struct rusage usage;
  if (getrusage(RUSAGE_SELF, &usage) != 0) return;
  const auto seconds = [](const struct timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
  };
  out->push_back(MakeCounter("process_cpu_seconds_total",
                             "Total user and system CPU time spent in seconds.",
                             seconds(usage.ru_utime) + seconds(usage.ru_stime)));
}

void AddDescriptors(Families* out) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
    out->push_back(MakeGauge("process_max_fds", "Maximum number of open file descriptors.",
                             static_cast<double>(limit.rlim_cur)));
  DIR* directory = opendir("/proc/self/fd");
  if (directory == nullptr) return;
  int entries = 0;
  while (readdir(directory) != nullptr) ++entries;
  closedir(directory);
  // Without ".", ".." and the directory's own.
  out->push_back(MakeGauge("process_open_fds", "Number of open file descriptors.", entries - 3));
}

}  // namespace

Families ProcessCollector::Collect() const {
  Families out;
  AddCpu(&out);
  AddStat(&out);
  AddDescriptors(&out);
  return out;
}

}  // namespace drover
