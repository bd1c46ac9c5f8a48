#include "snapshot/vcpu_state_proto.h"

#include <algorithm>
#include <string>
#include <vector>

#include "snapshot/state_limits.h"

namespace drover {
namespace {

namespace pb = snapshot::v1;
using Scope = FieldPath::Scope;

constexpr uint64_t kPage = 4096;
constexpr uint32_t kCpuidFlags = 7;  // KVM_CPUID_FLAG_*

// A field of the same name in message and model, both ways.
#define READ(field) out.field = reader->Number<decltype(out.field)>(#field, proto.field())
#define READ_TO(field, most) \
  out.field = reader->Number<decltype(out.field)>(#field, proto.field(), most)
#define WRITE(field) proto->set_##field(value.field)
// A field that is a message.
#define READ_PART(field)                          \
  do {                                            \
    const Scope scope(reader->path(), #field);    \
    out.field = FromProto(proto.field(), reader); \
  } while (false)
#define WRITE_PART(field)                                   \
  do {                                                      \
    const Scope scope(writer->path(), #field);              \
    ToProto(value.field, writer, proto->mutable_##field()); \
    writer->RestoreUnknown(proto->mutable_##field());       \
  } while (false)

std::vector<uint8_t> BytesOf(const std::string& bytes) { return {bytes.begin(), bytes.end()}; }

std::string StringOf(std::span<const uint8_t> bytes) { return {bytes.begin(), bytes.end()}; }

CpuidEntry FromProto(const pb::CpuidEntry& proto, FieldReader* reader) {
  CpuidEntry out;
  READ(leaf);
  READ(subleaf);
  READ_TO(flags, kCpuidFlags);
  READ(eax);
  READ(ebx);
  READ(ecx);
  READ(edx);
  return out;
}

void ToProto(const CpuidEntry& value, FieldWriter*, pb::CpuidEntry* proto) {
  WRITE(leaf);
  WRITE(subleaf);
  WRITE(flags);
  WRITE(eax);
  WRITE(ebx);
  WRITE(ecx);
  WRITE(edx);
}

template <typename Register>
Register RegisterFromProto(const pb::RegisterValue& proto) {
  return {proto.index(), proto.value()};
}

void ToProto(const auto& value, FieldWriter*, pb::RegisterValue* proto) {
  WRITE(index);
  WRITE(value);
}

TscState FromProto(const pb::TscState& proto, FieldReader* reader) {
  TscState out;
  out.khz = reader->Number<uint32_t>("khz", proto.khz(), UINT32_MAX, 1);
  if (proto.has_offset()) out.offset = proto.offset();
  out.value = proto.value();
  return out;
}

void ToProto(const TscState& value, FieldWriter*, pb::TscState* proto) {
  WRITE(khz);
  if (value.offset) proto->set_offset(*value.offset);
  WRITE(value);
}

#define EACH_GENERAL_REGISTER(X) \
  X(rax);                        \
  X(rbx);                        \
  X(rcx);                        \
  X(rdx);                        \
  X(rsi);                        \
  X(rdi);                        \
  X(rsp);                        \
  X(rbp);                        \
  X(r8);                         \
  X(r9);                         \
  X(r10);                        \
  X(r11);                        \
  X(r12);                        \
  X(r13);                        \
  X(r14);                        \
  X(r15);                        \
  X(rip);                        \
  X(rflags)

GeneralRegisters FromProto(const pb::GeneralRegisters& proto, FieldReader* reader) {
  GeneralRegisters out;
  EACH_GENERAL_REGISTER(READ);
  return out;
}

void ToProto(const GeneralRegisters& value, FieldWriter*, pb::GeneralRegisters* proto) {
  EACH_GENERAL_REGISTER(WRITE);
}

SegmentState FromProto(const pb::SegmentState& proto, FieldReader* reader) {
  SegmentState out;
  READ(base);
  READ(limit);
  READ(selector);
  READ_TO(type, 15);
  READ_TO(dpl, 3);
  READ_TO(present, 1);
  READ_TO(db, 1);
  READ_TO(s, 1);
  READ_TO(l, 1);
  READ_TO(g, 1);
  READ_TO(avl, 1);
  READ_TO(unusable, 1);
  return out;
}

void ToProto(const SegmentState& value, FieldWriter*, pb::SegmentState* proto) {
  WRITE(base);
  WRITE(limit);
  WRITE(selector);
  WRITE(type);
  WRITE(dpl);
  WRITE(present);
  WRITE(db);
  WRITE(s);
  WRITE(l);
  WRITE(g);
  WRITE(avl);
  WRITE(unusable);
}

DescriptorTable FromProto(const pb::DescriptorTable& proto, FieldReader* reader) {
  DescriptorTable out;
  READ(base);
  READ(limit);
  return out;
}

void ToProto(const DescriptorTable& value, FieldWriter*, pb::DescriptorTable* proto) {
  WRITE(base);
  WRITE(limit);
}

#define EACH_SYSTEM_PART(X) \
  X(cs);                    \
  X(ds);                    \
  X(es);                    \
  X(fs);                    \
  X(gs);                    \
  X(ss);                    \
  X(tr);                    \
  X(ldt);                   \
  X(gdt);                   \
  X(idt)
#define EACH_SYSTEM_REGISTER(X) \
  X(cr0);                       \
  X(cr2);                       \
  X(cr3);                       \
  X(cr4);                       \
  X(efer);                      \
  X(apic_base)

SystemRegisters FromProto(const pb::SystemRegisters& proto, FieldReader* reader) {
  SystemRegisters out;
  EACH_SYSTEM_PART(READ_PART);
  EACH_SYSTEM_REGISTER(READ);
  READ_TO(cr8, 15);
  const auto pdptrs = static_cast<size_t>(proto.pdptrs_size());
  if (pdptrs == 0 || !reader->Check(pdptrs == 4, "pdptrs", pdptrs, "4 of them, or none"))
    return out;
  std::ranges::copy(proto.pdptrs(), out.pdptrs.emplace().begin());
  return out;
}

void ToProto(const SystemRegisters& value, FieldWriter* writer, pb::SystemRegisters* proto) {
  EACH_SYSTEM_PART(WRITE_PART);
  EACH_SYSTEM_REGISTER(WRITE);
  WRITE(cr8);
  if (value.pdptrs)
    for (const uint64_t pdptr : *value.pdptrs) proto->add_pdptrs(pdptr);
}

DebugRegisters FromProto(const pb::DebugRegisters& proto, FieldReader* reader) {
  DebugRegisters out;
  const auto count = static_cast<size_t>(proto.db_size());
  if (reader->Check(count == out.db.size(), "db", count, "4 of them"))
    std::ranges::copy(proto.db(), out.db.begin());
  READ(dr6);
  READ(dr7);
  return out;
}

void ToProto(const DebugRegisters& value, FieldWriter*, pb::DebugRegisters* proto) {
  for (const uint64_t db : value.db) proto->add_db(db);
  WRITE(dr6);
  WRITE(dr7);
}

#define EACH_EXCEPTION_FIELD(X) \
  X(injected);                  \
  X(pending);                   \
  X(vector);                    \
  X(has_error_code);            \
  X(error_code);                \
  X(has_payload);               \
  X(payload)

VcpuEvents::Exception FromProto(const pb::VcpuEvents::Exception& proto, FieldReader* reader) {
  VcpuEvents::Exception out;
  EACH_EXCEPTION_FIELD(READ);
  return out;
}

void ToProto(const VcpuEvents::Exception& value, FieldWriter*, pb::VcpuEvents::Exception* proto) {
  EACH_EXCEPTION_FIELD(WRITE);
}

VcpuEvents::Interrupt FromProto(const pb::VcpuEvents::Interrupt& proto, FieldReader* reader) {
  VcpuEvents::Interrupt out;
  READ(injected);
  READ(vector);
  READ(soft);
  READ(shadow);
  return out;
}

void ToProto(const VcpuEvents::Interrupt& value, FieldWriter*, pb::VcpuEvents::Interrupt* proto) {
  WRITE(injected);
  WRITE(vector);
  WRITE(soft);
  WRITE(shadow);
}

VcpuEvents::Nmi FromProto(const pb::VcpuEvents::Nmi& proto, FieldReader* reader) {
  VcpuEvents::Nmi out;
  READ(injected);
  READ(pending);
  READ(masked);
  return out;
}

void ToProto(const VcpuEvents::Nmi& value, FieldWriter*, pb::VcpuEvents::Nmi* proto) {
  WRITE(injected);
  WRITE(pending);
  WRITE(masked);
}

VcpuEvents::Smi FromProto(const pb::VcpuEvents::Smi& proto, FieldReader* reader) {
  VcpuEvents::Smi out;
  READ(smm);
  READ(pending);
  READ(inside_nmi);
  READ(latched_init);
  return out;
}

void ToProto(const VcpuEvents::Smi& value, FieldWriter*, pb::VcpuEvents::Smi* proto) {
  WRITE(smm);
  WRITE(pending);
  WRITE(inside_nmi);
  WRITE(latched_init);
}

VcpuEvents FromProto(const pb::VcpuEvents& proto, FieldReader* reader) {
  VcpuEvents out;
  READ(flags);
  READ_PART(exception);
  READ_PART(interrupt);
  READ_PART(nmi);
  READ_PART(smi);
  READ(sipi_vector);
  READ(triple_fault_pending);
  return out;
}

void ToProto(const VcpuEvents& value, FieldWriter* writer, pb::VcpuEvents* proto) {
  WRITE(flags);
  WRITE_PART(exception);
  WRITE_PART(interrupt);
  WRITE_PART(nmi);
  WRITE_PART(smi);
  WRITE(sipi_vector);
  WRITE(triple_fault_pending);
}

std::vector<CpuidEntry> CpuidFromProto(const pb::X86VcpuState& proto, FieldReader* reader) {
  std::vector<CpuidEntry> out;
  reader->Check(proto.cpuid_size() != 0, "cpuid", 0, "1 to 256 entries");
  for (const pb::CpuidEntry& entry : proto.cpuid()) {
    const Scope scope(reader->path(), "cpuid", out.size());
    out.push_back(FromProto(entry, reader));
  }
  return out;
}

// Ascending by index; each that is not is a problem.
template <typename Register>
std::vector<Register> RegistersFromProto(absl::string_view name, const auto& protos,
                                         FieldReader* reader) {
  std::vector<Register> out;
  for (const pb::RegisterValue& proto : protos) {
    const Scope scope(reader->path(), name, out.size());
    if (!out.empty() && proto.index() <= out.back().index)
      reader->Problem("index", absl::StrFormat("%#x", proto.index()),
                      absl::StrFormat("above %#x, the one before", out.back().index));
    out.push_back(RegisterFromProto<Register>(proto));
  }
  return out;
}

template <typename Value>
void ListToProto(absl::string_view name, const std::vector<Value>& values, FieldWriter* writer,
                 auto* protos) {
  for (size_t i = 0; i < values.size(); ++i) {
    const Scope scope(writer->path(), name, i);
    auto* proto = protos->Add();
    ToProto(values[i], writer, proto);
    writer->RestoreUnknown(proto);
  }
}

std::vector<uint8_t> XsaveFromProto(const std::string& bytes, FieldReader* reader) {
  using namespace state_limits;  // NOLINT
  reader->Check(
      bytes.size() >= kXsaveLeast && bytes.size() <= kXsaveMost && bytes.size() % kPage == 0,
      "xsave", bytes.size(), "4096 to 1048576 bytes in whole pages");
  return BytesOf(bytes);
}

std::optional<LapicRegisters> LapicFromProto(const pb::X86VcpuState& proto, FieldReader* reader) {
  LapicRegisters out = {};
  if (!proto.has_lapic()) return std::nullopt;
  if (reader->Check(proto.lapic().size() == out.size(), "lapic", proto.lapic().size(),
                    "1024 bytes"))
    std::ranges::copy(proto.lapic(), out.begin());
  return out;
}

std::optional<NestedStateBuffer> NestedFromProto(const pb::X86VcpuState& proto,
                                                 FieldReader* reader) {
  if (!proto.has_nested()) return std::nullopt;
  absl::StatusOr<NestedStateBuffer> nested = NestedStateBuffer::FromBytes(BytesOf(proto.nested()));
  if (nested.ok()) return *nested;
  reader->Problem("nested", std::string(nested.status().message()),
                  "128 to 8320 bytes, whose header says how many they are");
  return std::nullopt;
}

MpState MpStateFromProto(pb::MpState proto, FieldReader* reader) {
  const auto number = static_cast<uint32_t>(proto);
  reader->Check(number >= pb::MP_STATE_RUNNABLE && number <= pb::MP_STATE_SIPI_RECEIVED, "mp_state",
                number, "1 (runnable) to 5 (SIPI received)");
  return static_cast<MpState>(number - pb::MP_STATE_RUNNABLE);
}

VcpuState FromProto(const pb::X86VcpuState& proto, FieldReader* reader);

// READ_PART of one that must be there.
template <typename Model>
Model Needed(absl::string_view name, bool there, const auto& proto, FieldReader* reader) {
  if (!there) reader->Problem(name, "missing", "present");
  const Scope scope(reader->path(), name);
  return there ? FromProto(proto, reader) : Model();
}
#define READ_NEEDED(field) \
  out.field = Needed<decltype(out.field)>(#field, proto.has_##field(), proto.field(), reader)

VcpuState FromProto(const pb::X86VcpuState& proto, FieldReader* reader) {
  VcpuState out;
  out.cpuid = CpuidFromProto(proto, reader);
  READ_NEEDED(tsc);
  READ_NEEDED(sregs);
  out.xcrs = RegistersFromProto<XcrValue>("xcrs", proto.xcrs(), reader);
  out.xsave = XsaveFromProto(proto.xsave(), reader);
  READ_NEEDED(debug);
  out.lapic = LapicFromProto(proto, reader);
  out.msrs = RegistersFromProto<MsrValue>("msrs", proto.msrs(), reader);
  READ_NEEDED(regs);
  out.nested = NestedFromProto(proto, reader);
  READ_NEEDED(events);
  out.mp_state = MpStateFromProto(proto.mp_state(), reader);
  return out;
}

void ToProto(const VcpuState& value, FieldWriter* writer, pb::X86VcpuState* proto) {
  ListToProto("cpuid", value.cpuid, writer, proto->mutable_cpuid());
  WRITE_PART(tsc);
  WRITE_PART(sregs);
  ListToProto("xcrs", value.xcrs, writer, proto->mutable_xcrs());
  proto->set_xsave(StringOf(value.xsave));
  WRITE_PART(debug);
  if (value.lapic) proto->set_lapic(StringOf(*value.lapic));
  ListToProto("msrs", value.msrs, writer, proto->mutable_msrs());
  WRITE_PART(regs);
  if (value.nested) proto->set_nested(StringOf(value.nested->content()));
  WRITE_PART(events);
  proto->set_mp_state(
      static_cast<pb::MpState>(static_cast<int>(value.mp_state) + pb::MP_STATE_RUNNABLE));
}

}  // namespace

VcpuState VcpuFromProto(const pb::VcpuState& proto, FieldReader* reader) {
  VcpuState state = Needed<VcpuState>("x86", proto.has_x86(), proto.x86(), reader);
  state.id = proto.id();
  return state;
}

void VcpuToProto(const VcpuState& value, FieldWriter* writer, pb::VcpuState* proto) {
  WRITE(id);
  const Scope scope(writer->path(), "x86");
  ToProto(value, writer, proto->mutable_x86());
  writer->RestoreUnknown(proto->mutable_x86());
}

}  // namespace drover
