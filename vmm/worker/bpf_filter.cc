#include "vmm/worker/bpf_filter.h"

#include <linux/audit.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <set>
#include <vector>

#include "absl/strings/str_cat.h"
#include "vmm/base/status.h"

namespace drover {
namespace {

#if defined(__x86_64__)
constexpr uint32_t kArchitecture = AUDIT_ARCH_X86_64;
constexpr uint32_t kX32Bit = 0x40000000;  // __X32_SYSCALL_BIT: on no native number
#elif defined(__aarch64__)
constexpr uint32_t kArchitecture = AUDIT_ARCH_AARCH64;
constexpr uint32_t kX32Bit = 0x40000000;
#endif

using Program = std::vector<sock_filter>;

constexpr sock_filter Load(size_t offset) {
  return BPF_STMT(BPF_LD | BPF_W | BPF_ABS, static_cast<uint32_t>(offset));
}
constexpr sock_filter Return(uint32_t action) { return BPF_STMT(BPF_RET | BPF_K, action); }
constexpr size_t LowHalf(unsigned index) {
  return offsetof(seccomp_data, args) + index * sizeof(uint64_t);
}

// A piece of program that falls through when its condition holds; every jump that says otherwise
// has the placeholder below as its target, which Place resolves to the piece's end.
constexpr uint8_t kElse = 0xff;

// Of all arguments of one rule: four instructions each, within the reach of a jump of one byte.
constexpr size_t kMaxValues = 60;

sock_filter Jump(uint16_t test, uint32_t operand, uint8_t if_true, uint8_t if_false) {
  return BPF_JUMP(static_cast<uint16_t>(BPF_JMP | test | BPF_K), operand, if_true, if_false);
}

uint32_t Low(uint64_t value) { return static_cast<uint32_t>(value); }
uint32_t High(uint64_t value) { return static_cast<uint32_t>(value >> 32); }

bool ShareHighHalf(std::span<const uint64_t> values) {
  return std::all_of(values.begin(), values.end(),
                     [first = values[0]](uint64_t value) { return High(value) == High(first); });
}

// The upper half once, then the lower halves.
void LowEqualsOneOf(const ArgumentRule& rule, Program* out) {
  out->push_back(Load(LowHalf(rule.index) + 4));
  out->push_back(Jump(BPF_JEQ, High(rule.values[0]), 0, kElse));
  out->push_back(Load(LowHalf(rule.index)));
  for (size_t i = 0; i < rule.values.size(); ++i) {
    const size_t after = rule.values.size() - 1 - i;
    out->push_back(
        Jump(BPF_JEQ, Low(rule.values[i]), static_cast<uint8_t>(after), after == 0 ? kElse : 0));
  }
}

void EqualsOneOf(const ArgumentRule& rule, Program* out) {
  if (ShareHighHalf(rule.values)) return LowEqualsOneOf(rule, out);
  for (size_t i = 0; i < rule.values.size(); ++i) {
    const bool last = i + 1 == rule.values.size();
    const uint8_t hit = static_cast<uint8_t>((rule.values.size() - 1 - i) * 4);
    out->push_back(Load(LowHalf(rule.index)));
    out->push_back(Jump(BPF_JEQ, Low(rule.values[i]), 0, last ? kElse : 2));
    out->push_back(Load(LowHalf(rule.index) + 4));
    out->push_back(Jump(BPF_JEQ, High(rule.values[i]), hit, last ? kElse : 0));
  }
}

void NoBits(const ArgumentRule& rule, Program* out) {
  out->push_back(Load(LowHalf(rule.index)));
  out->push_back(Jump(BPF_JSET, Low(rule.values[0]), kElse, 0));
  out->push_back(Load(LowHalf(rule.index) + 4));
  out->push_back(Jump(BPF_JSET, High(rule.values[0]), kElse, 0));
}

void HasBitsHalf(size_t offset, uint32_t bits, Program* out) {
  out->push_back(Load(offset));
  out->push_back(BPF_STMT(BPF_ALU | BPF_AND | BPF_K, bits));
  out->push_back(Jump(BPF_JEQ, bits, 0, kElse));
}

void AddArgument(const ArgumentRule& rule, Program* out) {
  switch (rule.kind) {
    case ArgumentRule::Kind::kEquals:
      return EqualsOneOf(rule, out);
    case ArgumentRule::Kind::kNoBits:
      return NoBits(rule, out);
    case ArgumentRule::Kind::kHasBits:
      HasBitsHalf(LowHalf(rule.index), Low(rule.values[0]), out);
      return HasBitsHalf(LowHalf(rule.index) + 4, High(rule.values[0]), out);
  }
}

absl::Status Check(const SyscallRule& rule) {
  if (rule.number < 0) return absl::InvalidArgumentError("a negative system call number");
  size_t values = 0;
  for (const ArgumentRule& argument : rule.arguments) {
    values += std::max<size_t>(argument.values.size(), 2);
    const bool one = argument.kind != ArgumentRule::Kind::kEquals;
    if (argument.index > 5 || argument.values.empty() || values > kMaxValues ||
        (one && argument.values.size() != 1))
      return absl::InvalidArgumentError(
          absl::StrCat("system call ", rule.number, ": a malformed argument rule"));
  }
  return absl::OkStatus();
}

// One rule: its conditions, then its action; a condition that fails jumps behind it.
Program CompileRule(const SyscallRule& rule) {
  Program body;
  if (rule.error == 0)
    for (const ArgumentRule& argument : rule.arguments) AddArgument(argument, &body);
  const size_t otherwise = body.size() + 1;  // behind the action
  for (size_t i = 0; i < body.size(); ++i) {
    if (BPF_CLASS(body[i].code) != BPF_JMP) continue;
    if (body[i].jt == kElse) body[i].jt = static_cast<uint8_t>(otherwise - i - 1);
    if (body[i].jf == kElse) body[i].jf = static_cast<uint8_t>(otherwise - i - 1);
  }
  body.push_back(Return(rule.error == 0 ? SECCOMP_RET_ALLOW
                                        : SECCOMP_RET_ERRNO | (static_cast<uint32_t>(rule.error) &
                                                               SECCOMP_RET_DATA)));
  return body;
}

// All rules of one number, of which one must hold; `otherwise` for another number.
Program CompileSyscall(std::span<const SyscallRule> rules, long number, uint32_t otherwise) {
  Program body = {Jump(BPF_JEQ, static_cast<uint32_t>(number), 1, 0), Return(otherwise)};
  for (const SyscallRule& rule : rules) {
    if (rule.number != number) continue;
    const Program piece = CompileRule(rule);
    body.insert(body.end(), piece.begin(), piece.end());
  }
  body.push_back(Return(SECCOMP_RET_KILL_PROCESS));
  return body;
}

// A search tree over the sorted `numbers`: the kernel runs a new filter once for every system call
// that there is, so a chain of tests would make installing it slow.
Program CompileTree(std::span<const SyscallRule> rules, std::span<const long> numbers,
                    uint32_t otherwise) {
  if (numbers.size() == 1) return CompileSyscall(rules, numbers[0], otherwise);
  const size_t half = numbers.size() / 2;
  const Program low = CompileTree(rules, numbers.first(half), otherwise);
  const Program high = CompileTree(rules, numbers.subspan(half), otherwise);
  Program out = {Jump(BPF_JGE, static_cast<uint32_t>(numbers[half]), 0, 1),
                 BPF_STMT(BPF_JMP | BPF_JA, static_cast<uint32_t>(low.size()))};
  out.insert(out.end(), low.begin(), low.end());
  out.insert(out.end(), high.begin(), high.end());
  return out;
}

Program Preamble() {
  return {Load(offsetof(seccomp_data, arch)), Jump(BPF_JEQ, kArchitecture, 1, 0),
          Return(SECCOMP_RET_KILL_PROCESS),   Load(offsetof(seccomp_data, nr)),
          Jump(BPF_JGE, kX32Bit, 0, 1),       Return(SECCOMP_RET_KILL_PROCESS)};
}

// Tests the rules of `numbers`, and does `otherwise` with all other calls.
absl::StatusOr<Program> CompileProgram(std::span<const SyscallRule> rules,
                                       const std::set<long>& numbers, uint32_t otherwise) {
  Program program = Preamble();
  if (numbers.empty()) {
    program.push_back(Return(otherwise));
  } else {
    const Program tree =
        CompileTree(rules, std::vector<long>(numbers.begin(), numbers.end()), otherwise);
    program.insert(program.end(), tree.begin(), tree.end());
  }
  if (program.size() > BPF_MAXINSNS)
    return absl::OutOfRangeError(
        absl::StrCat("a seccomp filter of ", program.size(), " instructions"));
  return program;
}

// The numbers that `rules` have, once each.
absl::StatusOr<std::set<long>> NumbersOf(std::span<const SyscallRule> rules) {
  std::set<long> numbers;
  for (const SyscallRule& rule : rules) {
    RETURN_IF_ERROR(Check(rule));
    numbers.insert(rule.number);
  }
  return numbers;
}

std::vector<SyscallRule> RulesOf(std::span<const SyscallRule> rules, long number) {
  std::vector<SyscallRule> found;
  for (const SyscallRule& rule : rules)
    if (rule.number == number) found.push_back(rule);
  return found;
}

}  // namespace

absl::StatusOr<Program> CompileFilter(std::span<const SyscallRule> rules) {
  ASSIGN_OR_RETURN(const std::set<long> numbers, NumbersOf(rules));
  return CompileProgram(rules, numbers, SECCOMP_RET_KILL_PROCESS);
}

absl::StatusOr<Program> CompileNarrowing(std::span<const SyscallRule> rules,
                                         std::span<const SyscallRule> outer) {
  ASSIGN_OR_RETURN(std::set<long> numbers, NumbersOf(rules));
  ASSIGN_OR_RETURN(const std::set<long> more, NumbersOf(outer));
  numbers.insert(more.begin(), more.end());
  // What the outer filter tests in the same way needs no second test; what it does not know, it
  // refuses.
  std::erase_if(numbers, [&](long n) { return RulesOf(rules, n) == RulesOf(outer, n); });
  return CompileProgram(rules, numbers, SECCOMP_RET_ALLOW);
}

absl::Status InstallFilter(std::span<const sock_filter> program) {
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
    return PosixStatus(errno, "prctl", "PR_SET_NO_NEW_PRIVS");
  const sock_fprog filter = {.len = static_cast<unsigned short>(program.size()),
                             .filter = const_cast<sock_filter*>(program.data())};
  if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter) != 0)
    return PosixStatus(errno, "seccomp", "SECCOMP_SET_MODE_FILTER");
  return absl::OkStatus();
}

}  // namespace drover
