#ifndef DROVER_VMM_BASE_LOG_H_
#define DROVER_VMM_BASE_LOG_H_

#include <cstdint>
#include <initializer_list>
#include <string>
#include <utility>

#include "absl/strings/string_view.h"

namespace drover {

enum class LogLevel { kDebug, kInfo, kWarning, kError };

// One key=value pair of a log line. The value is quoted where it needs to be.
struct LogField {
  LogField(absl::string_view key, absl::string_view value) : key(key), value(value) {}
  LogField(absl::string_view key, long long value) : key(key), value(std::to_string(value)) {}
  std::string key;
  std::string value;
};

// Writes one structured line (logfmt: time=... level=... component=... msg="..." key=value) to the
// log descriptor with one write(2). Thread-safe; never blocks the caller for longer than that
// write; loses the line if it fails.
void Log(LogLevel level, absl::string_view message, std::initializer_list<LogField> fields = {});

// Process-wide settings; call before threads start. `component` names the process in each line.
void SetLogComponent(absl::string_view component);
void SetLogDescriptor(int fd);  // borrowed; standard error at first
void SetLogLevel(LogLevel minimum);

// "debug", "info", "warning", "error" to the level; false for another word.
bool ParseLogLevel(absl::string_view word, LogLevel* level);

// The line that Log would write for these values, without the newline: its time is `unix_micros`.
std::string FormatLogLine(int64_t unix_micros, LogLevel level, absl::string_view component,
                          absl::string_view message, std::initializer_list<LogField> fields);

}  // namespace drover

#endif  // DROVER_VMM_BASE_LOG_H_
