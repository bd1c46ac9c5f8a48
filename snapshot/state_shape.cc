#include "snapshot/state_shape.h"

#include <algorithm>
#include <bitset>
#include <cstdint>
#include <optional>
#include <span>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "snapshot/state_limits.h"

namespace drover {
namespace {

// The wire types of protobuf's encoding that are in use.
enum WireType : uint32_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

struct MessageShape;

// A field that holds messages, or repeats.
struct PartShape {
  uint32_t number;
  const char* name;
  const MessageShape* message;  // nullptr: bytes
  uint32_t most = 1;
  bool repeated = false;
};

// A message of proto/snapshot/v1. `kinds`: for each field number from 1 on v (varint), 4, 8
// (fixed), b (bytes or text), p (packed fixed64), or m (one of `parts`).
struct MessageShape {
  const char* kinds;
  std::span<const PartShape> parts = {};
  bool one_part = false;  // the parts are a oneof
};

constexpr MessageShape kNothing = {""};

// vcpu_state.proto.
constexpr MessageShape kRegisterValue = {"48"};
constexpr MessageShape kCpuidEntry = {"44v4444"};
constexpr MessageShape kTsc = {"v88"};
constexpr MessageShape kGeneral = {"888888888888888888"};
constexpr MessageShape kSegment = {"84vvvvvvvvvv"};
constexpr MessageShape kTable = {"8v"};
constexpr PartShape kSystemParts[] = {
    {1, "cs", &kSegment}, {2, "ds", &kSegment}, {3, "es", &kSegment}, {4, "fs", &kSegment},
    {5, "gs", &kSegment}, {6, "ss", &kSegment}, {7, "tr", &kSegment}, {8, "ldt", &kSegment},
    {9, "gdt", &kTable},  {10, "idt", &kTable}};
constexpr MessageShape kSystem = {"mmmmmmmmmm8888888p", kSystemParts};
constexpr MessageShape kDebug = {"p88"};
constexpr MessageShape kException = {"vvvv4v8"};
constexpr MessageShape kInterrupt = {"vvvv"};
constexpr MessageShape kNmi = {"vvv"};
constexpr PartShape kEventParts[] = {{2, "exception", &kException},
                                     {3, "interrupt", &kInterrupt},
                                     {4, "nmi", &kNmi},
                                     {5, "smi", &kInterrupt}};
constexpr MessageShape kEvents = {"vmmmmvv", kEventParts};
constexpr PartShape kX86Parts[] = {{1, "cpuid", &kCpuidEntry, state_limits::kCpuidEntries, true},
                                   {2, "tsc", &kTsc},
                                   {3, "sregs", &kSystem},
                                   {4, "xcrs", &kRegisterValue, state_limits::kXcrs, true},
                                   {6, "debug", &kDebug},
                                   {8, "msrs", &kRegisterValue, state_limits::kMsrs, true},
                                   {9, "regs", &kGeneral},
                                   {11, "events", &kEvents}};
constexpr MessageShape kX86 = {"mmmmbmbmmbmv", kX86Parts};
constexpr PartShape kVcpuParts[] = {{2, "x86", &kX86}};
constexpr MessageShape kVcpu = {"vm", kVcpuParts, true};

// irqchip_state.proto.
constexpr MessageShape kPic = {"vvvvvvvvvvvvvvvv"};
constexpr MessageShape kIoapic = {"8vvvp"};
constexpr MessageShape kPitChannel = {"vvvvvvvvvvvv"};
constexpr PartShape kPitParts[] = {{1, "channels", &kPitChannel, state_limits::kPitChannels, true}};
constexpr MessageShape kPit = {"mv", kPitParts};
constexpr PartShape kPcParts[] = {
    {1, "pic_master", &kPic}, {2, "pic_slave", &kPic}, {3, "ioapic", &kIoapic}, {4, "pit", &kPit}};
constexpr MessageShape kPc = {"mmmm", kPcParts};
constexpr PartShape kIrqchipParts[] = {{1, "pc", &kPc}, {2, "split", &kNothing}};
constexpr MessageShape kIrqchip = {"mm", kIrqchipParts, true};
constexpr MessageShape kGic = {"vvb"};

// microvm_state.proto.
constexpr MessageShape kBoot = {"bbb"};
constexpr MessageShape kFeatures = {"vvvvvvvv"};
constexpr PartShape kInfoParts[] = {
    {5, "boot_source", &kBoot},
    {6, "features", &kFeatures},
    {7, "required_capabilities", nullptr, state_limits::kCapabilities, true}};
constexpr MessageShape kInfo = {"vbvvmmmvvb", kInfoParts};
constexpr MessageShape kBacking = {"bvv"};
constexpr PartShape kDeviceParts[] = {{5, "backing", &kBacking}};
constexpr MessageShape kDevice = {"bbvbm", kDeviceParts};
constexpr MessageShape kRegion = {"vv"};
constexpr PartShape kDiffParts[] = {{2, "pages", nullptr, state_limits::kRegions, true}};
constexpr MessageShape kDiff = {"bm", kDiffParts};
constexpr PartShape kMemoryParts[] = {{1, "regions", &kRegion, state_limits::kRegions, true},
                                      {4, "diff", &kDiff}};
constexpr MessageShape kMemory = {"mvbm", kMemoryParts};
constexpr MessageShape kClock = {"888"};
constexpr MessageShape kMmds = {"vvb"};
constexpr PartShape kStateParts[] = {{1, "vm_info", &kInfo},
                                     {2, "vcpu_states", &kVcpu, state_limits::kVcpus, true},
                                     {3, "device_states", &kDevice, state_limits::kDevices, true},
                                     {4, "irqchip_state", &kIrqchip},
                                     {5, "gic_state", &kGic},
                                     {6, "mmds_state", &kMmds},
                                     {7, "memory", &kMemory},
                                     {8, "clock", &kClock}};
constexpr MessageShape kState = {"mmmmmmmm", kStateParts};

constexpr size_t kMostFields = 32;             // of a message
constexpr size_t kMostUnknownMessages = 4096;  // that have unknown fields
constexpr size_t kMostProblems = 256;          // then it gives up

// One field of encoded bytes.
struct WireField {
  uint32_t number = 0;
  uint32_t type = 0;
  absl::string_view raw;      // tag and all
  absl::string_view content;  // of kBytes
};

std::optional<uint64_t> TakeVarint(absl::string_view* bytes) {
  uint64_t value = 0;
  for (size_t i = 0; i < 10 && i < bytes->size(); ++i) {
    const auto byte = static_cast<uint8_t>((*bytes)[i]);
    value |= static_cast<uint64_t>(byte & 0x7F) << 7 * i;
    if ((byte & 0x80) == 0) {
      bytes->remove_prefix(i + 1);
      return value;
    }
  }
  return std::nullopt;
}

// The length of what follows the tag, the number itself of a varint left out.
std::optional<uint64_t> TakeLength(uint32_t type, absl::string_view* bytes) {
  if (type == kFixed32) return 4;
  if (type == kFixed64) return 8;
  const std::optional<uint64_t> number = TakeVarint(bytes);
  return type == kVarint && number ? 0 : type == kBytes ? number : std::nullopt;
}

std::optional<WireField> TakeField(absl::string_view* bytes) {
  const absl::string_view from = *bytes;
  const std::optional<uint64_t> tag = TakeVarint(bytes);
  if (!tag || *tag > UINT32_MAX || *tag >> 3 == 0) return std::nullopt;
  WireField field = {static_cast<uint32_t>(*tag >> 3), static_cast<uint32_t>(*tag & 7), {}, {}};
  const std::optional<uint64_t> length = TakeLength(field.type, bytes);
  if (!length || *length > bytes->size()) return std::nullopt;
  field.content = bytes->substr(0, *length);
  bytes->remove_prefix(*length);
  field.raw = from.substr(0, from.size() - bytes->size());
  return field;
}

uint32_t WireTypeOf(char kind) {
  return kind == 'v' ? kVarint : kind == '4' ? kFixed32 : kind == '8' ? kFixed64 : kBytes;
}

class Walker {
 public:
  explicit Walker(StateShape* out) : out_(out) {}

  void Walk(absl::string_view bytes, const MessageShape& shape) {
    const size_t known = absl::string_view(shape.kinds).size();
    uint32_t seen[kMostFields + 1] = {};
    const size_t size = bytes.size();
    while (!bytes.empty()) {
      if (out_->problems.count() >= kMostProblems) return GiveUp();
      const size_t at = size - bytes.size();
      const std::optional<WireField> field = TakeField(&bytes);
      if (!field) {
        Problem("", absl::StrCat("the encoding breaks off, or is none, at byte ", at, " of ", size),
                "an encoded message");
        return;
      }
      if (field->number > known)
        KeepUnknown(*field);
      else
        WalkField(*field, shape, ++seen[field->number]);
    }
    if (shape.one_part) CheckOnePart(shape, seen);
  }

 private:
  static const PartShape* PartOf(const MessageShape& shape, uint32_t number) {
    const auto found =
        std::ranges::find_if(shape.parts, [&](const PartShape& p) { return p.number == number; });
    return found == shape.parts.end() ? nullptr : &*found;
  }

  void WalkField(const WireField& field, const MessageShape& shape, uint32_t times) {
    const char kind = shape.kinds[field.number - 1];
    const PartShape* part = PartOf(shape, field.number);
    const std::string name = part ? part->name : absl::StrCat("field ", field.number);
    if (field.type != WireTypeOf(kind))
      return Problem(name, absl::StrCat("wire type ", field.type),
                     absl::StrCat("wire type ", WireTypeOf(kind)));
    if (kind == 'p' && field.content.size() % 8 != 0)
      return Problem(name, absl::StrCat(field.content.size(), " bytes"), "a multiple of 8");
    const uint32_t most = part ? part->most : 1;
    if (times > most) GiveUp();
    if (times == most + 1)
      Problem(name, most == 1 ? "there twice" : absl::StrCat("more than ", most),
              most == 1 ? "once" : absl::StrCat("at most ", most));
    if (times <= most && part && part->message) Enter(*part, times - 1, field.content);
  }

  void Enter(const PartShape& part, uint32_t index, absl::string_view content) {
    const size_t length = path_.size();
    absl::StrAppend(&path_, path_.empty() ? "" : ".", part.name);
    if (part.repeated) absl::StrAppend(&path_, "[", index, "]");
    Walk(content, *part.message);
    path_.resize(length);
  }

  // What follows is not looked at.
  void GiveUp() { out_->bounded = false; }

  void CheckOnePart(const MessageShape& shape, const uint32_t* seen) {
    const auto there = [&](const PartShape& part) { return seen[part.number] != 0; };
    if (std::ranges::count_if(shape.parts, there) > 1)
      Problem("", "of more than one kind", "of one kind");
  }

  void KeepUnknown(const WireField& field) {
    auto found = out_->unknown_fields.find(path_);
    if (found == out_->unknown_fields.end()) {
      if (out_->unknown_fields.size() == kMostUnknownMessages)
        return Problem("", "an unknown field, as in many messages before",
                       absl::StrCat("in at most ", kMostUnknownMessages, " messages"));
      found = out_->unknown_fields.emplace(path_, "").first;
    }
    absl::StrAppend(&found->second, field.raw);
  }

  void Problem(absl::string_view name, std::string found, std::string right) {
    const char* dot = path_.empty() || name.empty() ? "" : ".";
    std::string field = absl::StrCat(path_, dot, name);
    if (field.empty()) field = "state";
    out_->problems.Add({std::move(field), std::move(found), std::move(right)});
  }

  StateShape* const out_;
  std::string path_;
};

}  // namespace

StateShape WalkState(absl::string_view bytes) {
  StateShape shape;
  Walker(&shape).Walk(bytes, kState);
  return shape;
}

}  // namespace drover
