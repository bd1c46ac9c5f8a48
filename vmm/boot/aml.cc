#include "vmm/boot/aml.h"

#include "vmm/base/status.h"
#include "vmm/boot/bytes.h"

namespace drover::aml {
namespace {

constexpr uint8_t kZeroOp = 0x00;
constexpr uint8_t kOneOp = 0x01;
constexpr uint8_t kNameOp = 0x08;
constexpr uint8_t kBytePrefix = 0x0A;
constexpr uint8_t kDWordPrefix = 0x0C;
constexpr uint8_t kScopeOp = 0x10;
constexpr uint8_t kBufferOp = 0x11;
constexpr uint8_t kPackageOp = 0x12;
constexpr uint8_t kExtensionPrefix = 0x5B;
constexpr uint8_t kDeviceOp = 0x82;

Term Concatenate(const std::vector<Term>& terms) {
  Term out;
  for (const Term& term : terms) Append(out, term);
  return out;
}

// PkgLength (counting itself) before `content` (§20.2.4).
Term WithLength(const Term& content) {
  Term out;
  size_t length = content.size() + 1;
  if (length < 64) {
    out = {static_cast<uint8_t>(length)};
  } else {
    ++length;
    DROVER_CHECK(length < (1 << 12));
    out = {static_cast<uint8_t>(0x40 | (length & 0xf)), static_cast<uint8_t>(length >> 4)};
  }
  Append(out, content);
  return out;
}

Term Block(Term op, absl::string_view name, const std::vector<Term>& terms) {
  Term content;
  Append(content, name);
  Append(content, Concatenate(terms));
  Append(op, WithLength(content));
  return op;
}

}  // namespace

Term Integer(uint8_t value) {
  if (value == 0) return {kZeroOp};
  if (value == 1) return {kOneOp};
  return {kBytePrefix, value};
}

// Three letters of five bits, then four hexadecimal digits, big-endian (§19.6.36).
Term EisaId(absl::string_view id) {
  DROVER_CHECK(id.size() == 7);
  uint32_t value = 0;
  for (char c : id.substr(0, 3)) value = value << 5 | static_cast<uint32_t>(c - 'A' + 1);
  for (char c : id.substr(3))
    value = value << 4 | static_cast<uint32_t>(c <= '9' ? c - '0' : c - 'A' + 10);
  return {kDWordPrefix, static_cast<uint8_t>(value >> 24), static_cast<uint8_t>(value >> 16),
          static_cast<uint8_t>(value >> 8), static_cast<uint8_t>(value)};
}

Term Buffer(const std::vector<uint8_t>& bytes) {
  DROVER_CHECK(bytes.size() < 256);
  Term content = Integer(static_cast<uint8_t>(bytes.size()));
  Append(content, bytes);
  Term out = {kBufferOp};
  Append(out, WithLength(content));
  return out;
}

Term Package(const std::vector<Term>& elements) {
  Term content = {static_cast<uint8_t>(elements.size())};
  Append(content, Concatenate(elements));
  Term out = {kPackageOp};
  Append(out, WithLength(content));
  return out;
}

Term Name(absl::string_view name, const Term& value) {
  Term out = {kNameOp};
  Append(out, name);
  Append(out, value);
  return out;
}

Term Device(absl::string_view name, const std::vector<Term>& terms) {
  return Block({kExtensionPrefix, kDeviceOp}, name, terms);
}

Term Scope(absl::string_view name, const std::vector<Term>& terms) {
  return Block({kScopeOp}, name, terms);
}

std::vector<uint8_t> IoPorts(uint16_t first, uint8_t count) {
  constexpr uint8_t kIoPortDescriptor = 0x47, kDecodes16Bits = 1, kAlignment = 1;
  const uint8_t low = static_cast<uint8_t>(first), high = static_cast<uint8_t>(first >> 8);
  return {kIoPortDescriptor, kDecodes16Bits, low, high, low, high, kAlignment, count};
}

std::vector<uint8_t> IsaIrq(uint32_t irq) {
  constexpr uint8_t kIrqNoFlagsDescriptor = 0x22;
  DROVER_CHECK(irq < 16);
  const uint32_t mask = 1u << irq;
  return {kIrqNoFlagsDescriptor, static_cast<uint8_t>(mask), static_cast<uint8_t>(mask >> 8)};
}

Term Resources(const std::vector<std::vector<uint8_t>>& descriptors) {
  constexpr uint8_t kEndTag = 0x79;
  std::vector<uint8_t> bytes = Concatenate(descriptors);
  bytes.push_back(kEndTag);
  bytes.push_back(0);  // no checksum
  return Buffer(bytes);
}

}  // namespace drover::aml
