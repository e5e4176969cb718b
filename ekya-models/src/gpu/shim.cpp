// What libtorch can do with a GPU and `tch` does not pass on: streams, events, memory.
//
// Everything goes through c10's interfaces for any device, which CUDA's half of libtorch registers
// itself with when it is loaded. So this needs neither CUDA's headers nor its libraries, and one
// program serves machines with and without a GPU; where none is registered, every call fails.
//
// No exception leaves a function: each returns null, or what went wrong as a string to be freed with
// `free`.

#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <cstring>
#include <exception>

namespace {

constexpr auto GPU = c10::DeviceType::CUDA;

template <typename Call> char *guarded(Call call) noexcept {
    try {
        call();
        return nullptr;
    } catch (const std::exception &error) {
        return strdup(error.what());
    } catch (...) {
        return strdup("an exception of unknown type");
    }
}

c10::Device device(int index) {
    return c10::Device(GPU, static_cast<c10::DeviceIndex>(index));
}

} // namespace

extern "C" {

// The calling thread computes on a stream from libtorch's pool from now on.
char *ekya_gpu_take_stream(int index) noexcept {
    return guarded([&] {
        const c10::impl::VirtualGuardImpl gpu(GPU);
        gpu.exchangeStream(gpu.getStreamFromGlobalPool(device(index)));
    });
}

// Waits until the calling thread's stream has done all that it was given.
char *ekya_gpu_synchronise(int index) noexcept {
    return guarded([&] {
        const c10::impl::VirtualGuardImpl gpu(GPU);
        gpu.synchronizeStream(gpu.getStream(device(index)));
    });
}

// Waits until all streams have.
char *ekya_gpu_synchronise_all(int index) noexcept {
    return guarded([&] {
        const c10::impl::VirtualGuardImpl gpu(GPU);
        gpu.synchronizeDevice(static_cast<c10::DeviceIndex>(index));
    });
}

// Puts a mark that knows its time into the calling thread's stream.
char *ekya_gpu_mark(int index, void **mark) noexcept {
    return guarded([&] {
        const c10::impl::VirtualGuardImpl gpu(GPU);
        auto event = std::make_unique<c10::Event>(GPU, c10::EventFlag::BACKEND_DEFAULT);
        event->record(gpu.getStream(device(index)));
        *mark = event.release();
    });
}

// Waits for the second mark; milliseconds from the first one to it.
char *ekya_gpu_between(const void *first, const void *second, double *milliseconds) noexcept {
    return guarded([&] {
        const auto *from = static_cast<const c10::Event *>(first);
        const auto *to = static_cast<const c10::Event *>(second);
        to->synchronize();
        *milliseconds = from->elapsedTime(*to);
    });
}

void ekya_gpu_drop_mark(void *mark) noexcept { delete static_cast<c10::Event *>(mark); }

// Bytes: those of tensors now and at most since the last call with `reset`, those that libtorch
// holds for this process, those that are free, those that there are.
char *ekya_gpu_memory(int index, bool reset, int64_t *bytes) noexcept {
    return guarded([&] {
        auto *allocator = c10::getDeviceAllocator(GPU);
        const auto place = static_cast<c10::DeviceIndex>(index);
        const auto stats = allocator->getDeviceStats(place);
        const auto [free, total] = allocator->getMemoryInfo(place);
        bytes[0] = stats.allocated_bytes[0].current;
        bytes[1] = stats.allocated_bytes[0].peak;
        bytes[2] = stats.reserved_bytes[0].current;
        bytes[3] = static_cast<int64_t>(free);
        bytes[4] = static_cast<int64_t>(total);
        if (reset) {
            allocator->resetPeakStats(place);
        }
    });
}

// Gives what no tensor uses back to the driver.
char *ekya_gpu_empty_cache() noexcept {
    return guarded([] { c10::getDeviceAllocator(GPU)->emptyCache(); });
}

} // extern "C"
