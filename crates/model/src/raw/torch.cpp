// The functions of libtorch that tch has no wrapper for. Each returns null, or the text of an error for the caller to free; where there is
// no memory for a text, null, too, and results that are still null.

#include <ATen/Context.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/_flash_attention_backward.h>
#include <ATen/ops/_flash_attention_forward.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <cstdint>
#include <cstring>
#include <exception>
#include <optional>
#include <tuple>

namespace {

// While it lives, libtorch uses kernels whose sums have one order, and does not fill memory that is overwritten anyway.
class OneOrder {
    at::Context &context = at::globalContext();
    bool before = context.deterministicAlgorithms();
    bool only_warned = context.deterministicAlgorithmsWarnOnly();
    bool filled = context.deterministicFillUninitializedMemory();

   public:
    OneOrder() {
        context.setDeterministicAlgorithms(true, false);
        context.setDeterministicFillUninitializedMemory(false);
    }
    ~OneOrder() {
        context.setDeterministicAlgorithms(before, only_warned);
        context.setDeterministicFillUninitializedMemory(filled);
    }
};

template <typename F> char *guarded(F work) {
    try {
        work();
        return nullptr;
    } catch (const std::exception &error) {
        return strdup(error.what() ? error.what() : "an exception without words");
    } catch (...) {
        // Nothing may leave through C.
        return strdup("an exception that is not a std::exception");
    }
}

}  // namespace

extern "C" {

// Causal attention of each document to itself. q [T, H, E], k and v [T, K, E]; offsets [documents + 1] (int32). results: the output
// [T, H, E] and the logarithms of the normalisers [H, T].
char *sirocco_flash_forward(const at::Tensor *q, const at::Tensor *k, const at::Tensor *v, const at::Tensor *offsets, int64_t longest,
                            double scale, at::Tensor **results) {
    return guarded([&] {
        auto made = at::_flash_attention_forward(*q, *k, *v, *offsets, *offsets, longest, longest, /*dropout_p=*/0.0, /*is_causal=*/true,
                                                 /*return_debug_mask=*/false, scale);
        results[0] = new at::Tensor(std::get<0>(made));
        results[1] = new at::Tensor(std::get<1>(made));
    });
}

// kept: q, k, v, the output, the logarithms. results: the gradients of q, k and v.
char *sirocco_flash_backward(const at::Tensor *dout, const at::Tensor *const *kept, const at::Tensor *offsets, int64_t longest,
                             double scale, at::Tensor **results) {
    return guarded([&] {
        OneOrder guard;
        // Without dropout no random state is read, but one of this type is expected.
        auto state = at::zeros({2}, dout->options().dtype(at::kUInt64));
        auto unused = at::empty({0}, dout->options().dtype(at::kUInt64));
        auto made = at::_flash_attention_backward(*dout, *kept[0], *kept[1], *kept[2], *kept[3], *kept[4], *offsets, *offsets, longest,
                                                  longest, /*dropout_p=*/0.0, /*is_causal=*/true, state, unused, scale);
        results[0] = new at::Tensor(std::get<0>(made));
        results[1] = new at::Tensor(std::get<1>(made));
        results[2] = new at::Tensor(std::get<2>(made));
    });
}

// Sums inside bf16 products stay in fp32 to the end: by default cuBLAS may add parts of them in bf16.
char *sirocco_sums_in_fp32() {
    return guarded([] { at::globalContext().setAllowBF16ReductionCuBLAS(false, /*allow_splitk=*/true); });
}

// A copy of a host tensor on CUDA device `ordinal`, through pinned memory: the host does not wait for it.
char *sirocco_upload(const at::Tensor *host, int64_t ordinal, at::Tensor **result) {
    return guarded([&] {
        auto device = at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(ordinal));
        *result = new at::Tensor(host->pin_memory().to(device, host->scalar_type(), /*non_blocking=*/true));
    });
}
}
