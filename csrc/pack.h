// A few neighbouring elements that a GPU thread moves in one instruction of up to 16 bytes.
#pragma once

#include <type_traits>

#include "host_device.h"

namespace crrl {

template <class T, int Width>
struct alignas(sizeof(T) * Width) Pack {
  T lanes[Width];
};

template <class Group>
CRRL_HD Group load_pack(const void* source /* aligned to the pack's size */) {
  return *static_cast<const Group*>(source);
}

template <class Group>
CRRL_HD void store_pack(void* target /* aligned to the pack's size */, const Group& group) {
#ifdef __CUDA_ARCH__
  // nvcc takes the assignment of a struct apart into its members; the intrinsic of an ordinary store stays whole.
  using Word =
      std::conditional_t<sizeof(Group) == 16, uint4,
                         std::conditional_t<sizeof(Group) == 8, uint2,
                                            std::conditional_t<sizeof(Group) == 4, unsigned int, unsigned short>>>;
  static_assert(sizeof(Word) == sizeof(Group), "a pack has 2, 4, 8 or 16 bytes");
  __stwb(static_cast<Word*>(target), reinterpret_cast<const Word&>(group));
#else
  *static_cast<Group*>(target) = group;
#endif
}

}  // namespace crrl
