#ifndef DROVER_VMM_BOOT_AML_H_
#define DROVER_VMM_BOOT_AML_H_

#include <cstdint>
#include <vector>

#include "absl/strings/string_view.h"

namespace drover::aml {

// Pieces of ACPI Machine Language (ACPI 6.4 §20.2), as bytes. A name has four characters, or five
// from the root ("\\_SB_").
using Term = std::vector<uint8_t>;

Term Integer(uint8_t value);
Term EisaId(absl::string_view id);  // "PNP0501"
Term Buffer(const std::vector<uint8_t>& bytes);
Term Package(const std::vector<Term>& elements);
Term Name(absl::string_view name, const Term& value);
Term Device(absl::string_view name, const std::vector<Term>& terms);
Term Scope(absl::string_view name, const std::vector<Term>& terms);

// Resource descriptors for _CRS (ACPI 6.4 §6.4.2): a fixed range of 16-bit ports; an edge-triggered
// active-high ISA interrupt, 0 to 15.
std::vector<uint8_t> IoPorts(uint16_t first, uint8_t count);
std::vector<uint8_t> IsaIrq(uint32_t irq);
// A _CRS buffer of these with the end tag.
Term Resources(const std::vector<std::vector<uint8_t>>& descriptors);

}  // namespace drover::aml

#endif  // DROVER_VMM_BOOT_AML_H_
