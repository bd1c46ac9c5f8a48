#include "vmm/base/log.h"

#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace drover {
namespace {

std::atomic<int> g_descriptor{STDERR_FILENO};
std::atomic<LogLevel> g_minimum{LogLevel::kInfo};
char g_component[32] = "drover";

constexpr absl::string_view kLevels[] = {"debug", "info", "warning", "error"};

bool NeedsQuotes(absl::string_view value) {
  if (value.empty()) return true;
  for (const unsigned char c : value)
    if (c <= ' ' || c == '"' || c == '=' || c == '\\' || c >= 0x7f) return true;
  return false;
}

void AppendField(std::string* line, absl::string_view key, absl::string_view value) {
  if (NeedsQuotes(value))
    absl::StrAppend(line, " ", key, "=\"", absl::Utf8SafeCHexEscape(value), "\"");
  else
    absl::StrAppend(line, " ", key, "=", value);
}

std::string FormatTime(int64_t unix_micros) {
  const time_t seconds = unix_micros / 1000000;
  struct tm parts;
  gmtime_r(&seconds, &parts);
  char text[64];
  snprintf(text, sizeof(text), "%04d-%02d-%02dT%02d:%02d:%02d.%06dZ", parts.tm_year + 1900,
           parts.tm_mon + 1, parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec,
           static_cast<int>(unix_micros % 1000000));
  return text;
}

}  // namespace

std::string FormatLogLine(int64_t unix_micros, LogLevel level, absl::string_view component,
                          absl::string_view message, std::initializer_list<LogField> fields) {
  std::string line =
      absl::StrCat("time=", FormatTime(unix_micros), " level=", kLevels[static_cast<int>(level)],
                   " component=", component);
  AppendField(&line, "msg", message);
  for (const LogField& field : fields) AppendField(&line, field.key, field.value);
  return line;
}

void Log(LogLevel level, absl::string_view message, std::initializer_list<LogField> fields) {
  if (level < g_minimum.load(std::memory_order_relaxed)) return;
  struct timeval now;
  gettimeofday(&now, nullptr);
  std::string line = FormatLogLine(now.tv_sec * int64_t{1000000} + now.tv_usec, level, g_component,
                                   message, fields);
  line.push_back('\n');
  if (write(g_descriptor.load(std::memory_order_relaxed), line.data(), line.size()) < 0) {
    // A full or closed log must not stop the work that it reports.
  }
}

void SetLogComponent(absl::string_view component) {
  const size_t n = component.copy(g_component, sizeof(g_component) - 1);
  g_component[n] = '\0';
}

void SetLogDescriptor(int fd) { g_descriptor = fd; }

void SetLogLevel(LogLevel minimum) { g_minimum = minimum; }

bool ParseLogLevel(absl::string_view word, LogLevel* level) {
  for (int i = 0; i < 4; ++i) {
    if (word != kLevels[i]) continue;
    *level = static_cast<LogLevel>(i);
    return true;
  }
  return false;
}

}  // namespace drover
