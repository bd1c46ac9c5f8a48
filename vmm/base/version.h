#ifndef DROVER_VMM_BASE_VERSION_H_
#define DROVER_VMM_BASE_VERSION_H_

namespace drover {

// The version of all of Drover's programs.
inline constexpr char kVersion[] = "0.1.0";

}  // namespace drover

#endif  // DROVER_VMM_BASE_VERSION_H_
