#ifndef DROVER_VMM_BASE_STATUS_MATCHERS_H_
#define DROVER_VMM_BASE_STATUS_MATCHERS_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <utility>

#include "vmm/base/status.h"

namespace drover {

// Matches a Status or StatusOr that is OK.
MATCHER(IsOk, "is OK") {
  if (arg.ok()) return true;
  *result_listener << internal::ToStatus(arg).ToString();
  return false;
}

// Matches a Status or StatusOr with this code and a message that the matcher accepts.
MATCHER_P2(StatusIs, code, message, "has that code and message") {
  const absl::Status& status = internal::ToStatus(arg);
  *result_listener << status.ToString();
  return status.code() == code &&
         ::testing::ExplainMatchResult(message, std::string(status.message()), result_listener);
}
template <typename Code>
auto StatusIs(Code code) {
  return StatusIs(code, ::testing::_);
}

// Matches a Status or StatusOr that carries this errno.
MATCHER_P(HasErrno, error, "carries that errno") {
  const absl::Status& status = internal::ToStatus(arg);
  *result_listener << status.ToString();
  return PosixErrno(status) == std::optional<int>(error);
}

// Matches an OK StatusOr whose value the matcher accepts.
MATCHER_P(IsOkAndHolds, inner, "is OK and holds") {
  if (!arg.ok()) {
    *result_listener << arg.status().ToString();
    return false;
  }
  return ::testing::ExplainMatchResult(inner, *arg, result_listener);
}

}  // namespace drover

#define ASSERT_OK(expr) ASSERT_THAT((expr), ::drover::IsOk())
#define EXPECT_OK(expr) EXPECT_THAT((expr), ::drover::IsOk())
#define ASSERT_OK_AND_ASSIGN(lhs, expr) \
  DROVER_ASSERT_OK_AND_ASSIGN(DROVER_CONCAT(drover_or_, __LINE__), lhs, expr)
#define DROVER_ASSERT_OK_AND_ASSIGN(tmp, lhs, expr) \
  auto tmp = (expr);                                \
  ASSERT_TRUE(tmp.ok()) << tmp.status().ToString(); \
  lhs = *std::move(tmp)

#endif  // DROVER_VMM_BASE_STATUS_MATCHERS_H_
