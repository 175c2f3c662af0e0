// Thread-block clusters, which blocks of sm_90 and later use to write into each other's shared memory: the PTX that
// CUDA C++ has no function for. Section names are those of the PTX ISA.
#pragma once

#include <cstdint>

namespace crrl {

// Code for clusters is compiled for older architectures too, where its body is empty and nothing launches it.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
inline constexpr bool kHasClusters = false;
#else
inline constexpr bool kHasClusters = true;
#endif

// Where the shared memory of another block of the cluster has what this block has at `address`.
__device__ inline uint32_t cluster_address(uint32_t address, uint32_t rank) {
  uint32_t there;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(address), "r"(rank));
  return there;
}

// All warps of all blocks meet, and see what any of them has written before. It is a fence for the whole GPU, and
// waits for every store under way: nothing for an inner loop.
__device__ inline void cluster_sync() {
  asm volatile(
      "barrier.cluster.arrive.release.aligned;\n"
      "barrier.cluster.wait.acquire.aligned;" ::
          : "memory");
}

// ---- "Parallel Synchronization and Communication Instructions: mbarrier". A barrier is 8 bytes of shared memory. A
// phase of it ends when as many threads as it was made for have arrived, and all bytes that they announced too. ----

__device__ inline void make_barrier(uint32_t barrier, uint32_t threads) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(threads) : "memory");
}

// Makes new barriers known to the other blocks; cluster_sync is to follow.
__device__ inline void publish_barriers() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

__device__ inline void arrive_and_expect(uint32_t barrier, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}

// Waits for the end of a phase: `parity` is 0 of the first, 1 of the second, 0 of the third.
__device__ inline void wait_for_phase(uint32_t barrier, uint32_t parity) {
  uint32_t done;
  do {
    asm volatile(
        "{\n"
        ".reg .pred ended;\n"
        "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 ended, [%1], %2;\n"
        "selp.u32 %0, 1, 0, ended;\n"
        "}"
        : "=r"(done)
        : "r"(barrier), "r"(parity)
        : "memory");
  } while (done == 0);
}

// ---- "Data Movement and Conversion Instructions: st.async": a store that tells a barrier beside its target, in the
// same block's shared memory, of its bytes. Who waits for the barrier sees them; no fence is needed. ----

__device__ inline void store_async(uint32_t target, uint32_t word, uint32_t barrier) {
  asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.b32 [%0], %1, [%2];" ::"r"(target), "r"(word),
               "r"(barrier)
               : "memory");
}

__device__ inline void store_async(uint32_t target /* on 8 bytes */, uint2 words, uint32_t barrier) {
  asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.v2.b32 [%0], {%1, %2}, [%3];" ::"r"(target),
               "r"(words.x), "r"(words.y), "r"(barrier)
               : "memory");
}

}  // namespace crrl
