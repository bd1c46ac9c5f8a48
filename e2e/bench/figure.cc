#include "e2e/bench/figure.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace drover {
namespace {

std::string Number(std::optional<double> value) {
  return value.has_value() ? absl::StrFormat("%.6g", *value) : "null";
}

std::string Word(std::optional<bool> value) {
  return value.has_value() ? (*value ? "true" : "false") : "null";
}

}  // namespace

std::optional<double> Figure::ratio() const {
  if (!baseline.has_value() || *baseline == 0) return std::nullopt;
  return value / *baseline;
}

std::optional<bool> Figure::met() const {
  if (!goal.has_value()) return std::nullopt;
  if (goal_is_ratio && !ratio().has_value()) return std::nullopt;
  return (goal_is_ratio ? *ratio() : value) <= *goal;
}

double Quantile(std::vector<double> samples, double share) {
  std::sort(samples.begin(), samples.end());
  const double at = std::ceil(share * static_cast<double>(samples.size())) - 1;
  return samples[static_cast<size_t>(std::clamp(at, 0.0, static_cast<double>(samples.size() - 1)))];
}

void Print(const Figure& figure) {
  const std::string samples = absl::StrJoin(
      figure.samples, ",",
      [](std::string* out, double sample) { absl::StrAppendFormat(out, "%.6g", sample); });
  // Names and units are this program's own words and need no escaping.
  printf(
      "{\"name\":\"%s\",\"value\":%s,\"unit\":\"%s\",\"baseline\":%s,\"baseline_name\":\"%s\","
      "\"ratio\":%s,"
      "\"goal\":%s,\"goal_is_ratio\":%s,\"met\":%s,\"samples\":[%s]}\n",
      figure.name.c_str(), Number(figure.value).c_str(), figure.unit.c_str(),
      Number(figure.baseline).c_str(), figure.baseline_name.c_str(), Number(figure.ratio()).c_str(),
      Number(figure.goal).c_str(), figure.goal_is_ratio ? "true" : "false",
      Word(figure.met()).c_str(), samples.c_str());
  fflush(stdout);
}

}  // namespace drover
