#include "snapshot/irqchip_state_proto.h"

#include <algorithm>
#include <utility>

#include "snapshot/state_limits.h"

namespace drover {
namespace {

namespace pb = snapshot::v1;
using Scope = FieldPath::Scope;

constexpr uint32_t kMostPitCount = 65536;

// A field of the same name in message and model, both ways.
#define READ(field) out.field = reader->Number<decltype(out.field)>(#field, proto.field())
#define WRITE(field) proto->set_##field(value.field)

#define EACH_PIC_FIELD(X)       \
  X(last_irr);                  \
  X(irr);                       \
  X(imr);                       \
  X(isr);                       \
  X(priority_add);              \
  X(irq_base);                  \
  X(read_reg_select);           \
  X(poll);                      \
  X(special_mask);              \
  X(init_state);                \
  X(auto_eoi);                  \
  X(rotate_on_auto_eoi);        \
  X(special_fully_nested_mode); \
  X(init4);                     \
  X(elcr);                      \
  X(elcr_mask)

PicState FromProto(const pb::PicState& proto, FieldReader* reader) {
  PicState out;
  EACH_PIC_FIELD(READ);
  return out;
}

void ToProto(const PicState& value, FieldWriter*, pb::PicState* proto) { EACH_PIC_FIELD(WRITE); }

IoapicState FromProto(const pb::IoapicState& proto, FieldReader* reader) {
  IoapicState out;
  READ(base_address);
  READ(selected_register);
  READ(id);
  READ(irr);
  const auto pins = static_cast<size_t>(proto.redirections_size());
  if (reader->Check(pins == IoapicState::kPins, "redirections", pins, "24 of them"))
    for (size_t pin = 0; pin < pins; ++pin)
      out.redirections[pin].bits = proto.redirections(static_cast<int>(pin));
  return out;
}

void ToProto(const IoapicState& value, FieldWriter*, pb::IoapicState* proto) {
  WRITE(base_address);
  WRITE(selected_register);
  WRITE(id);
  WRITE(irr);
  for (const IoapicRedirection& pin : value.redirections) proto->add_redirections(pin.bits);
}

#define EACH_PIT_CHANNEL_FIELD(X) \
  X(latched_count);               \
  X(count_latched);               \
  X(status_latched);              \
  X(status);                      \
  X(read_state);                  \
  X(write_state);                 \
  X(write_latch);                 \
  X(rw_mode);                     \
  X(mode);                        \
  X(bcd);                         \
  X(gate)

PitChannelState FromProto(const pb::PitChannelState& proto, FieldReader* reader) {
  PitChannelState out;
  out.count = reader->Number<uint32_t>("count", proto.count(), kMostPitCount);
  EACH_PIT_CHANNEL_FIELD(READ);
  return out;
}

void ToProto(const PitChannelState& value, FieldWriter*, pb::PitChannelState* proto) {
  WRITE(count);
  EACH_PIT_CHANNEL_FIELD(WRITE);
}

PitState FromProto(const pb::PitState& proto, FieldReader* reader) {
  PitState out;
  READ(flags);
  const auto count = static_cast<size_t>(proto.channels_size());
  if (!reader->Check(count == out.channels.size(), "channels", count, "3 of them")) return out;
  for (size_t i = 0; i < count; ++i) {
    const Scope scope(reader->path(), "channels", i);
    out.channels[i] = FromProto(proto.channels(static_cast<int>(i)), reader);
  }
  return out;
}

void ToProto(const PitState& value, FieldWriter* writer, pb::PitState* proto) {
  WRITE(flags);
  for (size_t i = 0; i < value.channels.size(); ++i) {
    const Scope scope(writer->path(), "channels", i);
    pb::PitChannelState* channel = proto->add_channels();
    ToProto(value.channels[i], writer, channel);
    writer->RestoreUnknown(channel);
  }
}

PcIrqchipState FromProto(const pb::PcIrqchipState& proto, FieldReader* reader);

template <typename Proto>
auto Part(absl::string_view name, bool there, const Proto& proto, FieldReader* reader) {
  if (!there) reader->Problem(name, "missing", "present");
  const Scope scope(reader->path(), name);
  return there ? FromProto(proto, reader) : decltype(FromProto(proto, reader))();
}

PcIrqchipState FromProto(const pb::PcIrqchipState& proto, FieldReader* reader) {
  PcIrqchipState out;
  out.pic_master = Part("pic_master", proto.has_pic_master(), proto.pic_master(), reader);
  out.pic_slave = Part("pic_slave", proto.has_pic_slave(), proto.pic_slave(), reader);
  out.ioapic = Part("ioapic", proto.has_ioapic(), proto.ioapic(), reader);
  if (proto.has_pit()) out.pit = Part("pit", true, proto.pit(), reader);
  return out;
}

void WritePart(absl::string_view name, const auto& value, FieldWriter* writer, auto* proto) {
  const Scope scope(writer->path(), name);
  ToProto(value, writer, proto);
  writer->RestoreUnknown(proto);
}

void ToProto(const PcIrqchipState& value, FieldWriter* writer, pb::PcIrqchipState* proto) {
  WritePart("pic_master", value.pic_master, writer, proto->mutable_pic_master());
  WritePart("pic_slave", value.pic_slave, writer, proto->mutable_pic_slave());
  WritePart("ioapic", value.ioapic, writer, proto->mutable_ioapic());
  if (value.pit) WritePart("pit", *value.pit, writer, proto->mutable_pit());
}

}  // namespace

IrqchipState IrqchipFromProto(const pb::IrqchipState& proto, FieldReader* reader) {
  if (proto.has_split()) return SplitIrqchipState();
  return Part("pc", proto.has_pc(), proto.pc(), reader);
}

void IrqchipToProto(const IrqchipState& state, FieldWriter* writer, pb::IrqchipState* proto) {
  if (const auto* pc = std::get_if<PcIrqchipState>(&state)) {
    const Scope scope(writer->path(), "pc");
    ToProto(*pc, writer, proto->mutable_pc());
    writer->RestoreUnknown(proto->mutable_pc());
  } else {
    const Scope scope(writer->path(), "split");
    writer->RestoreUnknown(proto->mutable_split());
  }
}

GicState GicFromProto(const pb::GicState& proto, FieldReader* reader) {
  GicState out;
  const auto kind = static_cast<uint32_t>(proto.kind());
  reader->Check(kind == pb::GIC_KIND_V2 || kind == pb::GIC_KIND_V3, "kind", kind,
                "1 (GICv2) or 2 (GICv3)");
  out.kind = static_cast<GicKind>(kind);
  out.its = proto.its();
  const std::string& bytes = proto.content();
  reader->Check(!bytes.empty() && bytes.size() <= state_limits::kGicBytes, "content", bytes.size(),
                "1 to 4194304 bytes");
  out.bytes.assign(bytes.begin(), bytes.end());
  return out;
}

void GicToProto(const GicState& state, pb::GicState* proto) {
  proto->set_kind(static_cast<pb::GicKind>(state.kind));
  proto->set_its(state.its);
  proto->set_content({state.bytes.begin(), state.bytes.end()});
}

}  // namespace drover
