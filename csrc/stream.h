#pragma once

#include <c10/core/Device.h>
#include <c10/core/impl/VirtualGuardImpl.h>

namespace crrl {

// The caller's current stream on an accelerator, as a launcher takes it. Found without a c10/cuda header: those include
// files that a CPU build of torch lacks, and with one the CUDA code is compiled all the same.
inline void* current_stream(c10::Device device) {
  return c10::impl::VirtualGuardImpl(device.type()).getStream(device).native_handle();
}

}  // namespace crrl
