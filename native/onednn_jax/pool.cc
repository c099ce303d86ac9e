// Max pools: the largest number of each window and where it was, and the way back.
//
// They are written out, as oneDNN's max pool passes over a NaN and makes the lowest
// number of nothing but NaN, which would hide that a training has diverged.

#include <algorithm>
#include <cstdint>
#include <stdexcept>

#include "common.h"

using namespace onednn_jax;

namespace {

// The axes of images [count, height, width, channels] and of the windows' results.
struct Windows {
  int64_t count, height, width, channels, rows, columns, size, stride, top, left;

  // `window`: the size, the stride, and the padding above and to the left.
  Windows(const Array& images, const Array& out, Numbers window) {
    auto from = images.dimensions(), to = out.dimensions();
    if (from.size() != 4 || to.size() != 4 || window.size() != 4)
      throw std::invalid_argument("4 axes and 4 numbers are needed");
    count = from[0], height = from[1], width = from[2], channels = from[3];
    rows = to[1], columns = to[2];
    size = window[0], stride = window[1], top = window[2], left = window[3];
  }
  int64_t pixel(int64_t n, int64_t y, int64_t x) const {
    return ((n * height + y) * width + x) * channels;
  }
  int64_t result(int64_t n, int64_t y, int64_t x) const {
    return ((n * rows + y) * columns + x) * channels;
  }
  // The number of a place among those of a window.
  uint8_t index(int64_t row, int64_t column, int64_t y, int64_t x) const {
    return (y + top - row * stride) * size + x + left - column * stride;
  }
};

// From the first index to before the last.
struct Range {
  int64_t first, last;
};
// What a window holds, of an axis of this length.
Range Inside(int64_t window, int64_t pad, int64_t length, const Windows& w) {
  const int64_t first = window * w.stride - pad;
  return {std::max<int64_t>(first, 0), std::min(first + w.size, length)};
}
// The windows that hold a place.
Range Holding(int64_t place, int64_t pad, int64_t windows, const Windows& w) {
  const int64_t before = place + pad - w.size;  // no window that ends here holds it
  return {before < 0 ? 0 : before / w.stride + 1,
          std::min((place + pad) / w.stride + 1, windows)};
}

// Loops over a multiple of 32 channels are vectorized to their end; others take up to 8
// times as long.
constexpr int64_t kBlock = 32;

// Calls use(the first channel, how many) for blocks of channels, of which the last may
// overlap the one before.
template <typename F>
[[gnu::always_inline]] inline void EachBlock(int64_t channels, int64_t size, const F& use) {
  for (int64_t c = 0; c < channels; c += size) use(std::min(c, channels - size), size);
}

// Of equal numbers the first. A NaN is larger than every number.
template <typename T>
FOR_EVERY_PROCESSOR void Forward(const Windows& w, int64_t n, const T* images, T* out,
                                 uint8_t* where) {
  const int64_t block = w.channels % kBlock ? std::min(w.channels, kBlock) : w.channels;
  for (int64_t row = 0; row < w.rows; ++row) {
    const Range ys = Inside(row, w.top, w.height, w);
    for (int64_t column = 0; column < w.columns; ++column) {
      const Range xs = Inside(column, w.left, w.width, w);
      EachBlock(w.channels, block, [&](int64_t first, int64_t count) {
        T* __restrict largest = out + w.result(n, row, column) + first;
        uint8_t* __restrict index = where + w.result(n, row, column) + first;
        std::copy_n(images + w.pixel(n, ys.first, xs.first) + first, count, largest);
        std::fill_n(index, count, w.index(row, column, ys.first, xs.first));
        for (int64_t y = ys.first; y < ys.last; ++y)
          for (int64_t x = xs.first; x < xs.last; ++x) {
            const T* __restrict next = images + w.pixel(n, y, x) + first;
            const uint8_t now = w.index(row, column, y, x);
            for (int64_t c = 0; c < count; ++c) {
              const T old = largest[c], other = next[c];
              const uint8_t before = index[c];
              const bool keep = (Value(other) <= Value(old)) | (Value(old) != Value(old));
              largest[c] = keep ? old : other;
              index[c] = keep ? before : now;
            }
          }
      });
    }
  }
}

// Each place gathers from the windows that hold it, in their order.
template <typename T>
FOR_EVERY_PROCESSOR void Backward(const Windows& w, int64_t n, const T* out,
                                  const uint8_t* where, T* images) {
  const int64_t block = std::min(w.channels, kBlock);
  for (int64_t y = 0; y < w.height; ++y) {
    const Range rows = Holding(y, w.top, w.rows, w);
    for (int64_t x = 0; x < w.width; ++x) {
      const Range columns = Holding(x, w.left, w.columns, w);
      EachBlock(w.channels, block, [&](int64_t first, int64_t count) {
        float sum[kBlock] = {};
        for (int64_t row = rows.first; row < rows.last; ++row)
          for (int64_t column = columns.first; column < columns.last; ++column) {
            const T* __restrict gradient = out + w.result(n, row, column) + first;
            const uint8_t* __restrict index = where + w.result(n, row, column) + first;
            const uint8_t here = w.index(row, column, y, x);
            for (int64_t c = 0; c < count; ++c) {
              const float value = Value(gradient[c]);
              sum[c] += index[c] == here ? value : 0.f;
            }
          }
        T* __restrict to = images + w.pixel(n, y, x) + first;
        for (int64_t c = 0; c < count; ++c) Set(to[c], sum[c]);
      });
    }
  }
}

// Calls use(an image's index) for every image, on all threads.
template <typename F>
void Divide(ffi::ThreadPool& pool, const Windows& w, F&& use) {
  const int64_t numbers = w.height * w.width + w.rows * w.columns * w.size * w.size;
  Shares shares(pool, w.count, w.count * numbers * w.channels);
  Parallel(pool, shares.count, [&](int i) {
    for (int64_t k = 0; k < shares.size(i); ++k) use(shares.first(i) + k);
  });
}

}  // namespace

#pragma GCC visibility push(default)

XLA_FFI_DEFINE_HANDLER_SYMBOL(
    pool_forward,
    (+[](ffi::ThreadPool pool, Array images, Result out, Result where, Numbers window) {
      return Guard([&] {
        Windows w(images, *out, window);
        WithType(images, [&](auto type) {
          using T = decltype(type);
          Divide(pool, w, [&](int64_t n) {
            Forward(w, n, Data<T>(images), Data<T>(*out), Data<uint8_t>(*where));
          });
        });
      });
    }),
    ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Array>().Ret<Array>().Ret<Array>()
        .Attr<Numbers>("window"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(
    pool_backward,
    (+[](ffi::ThreadPool pool, Array out, Array where, Result images, Numbers window) {
      return Guard([&] {
        Windows w(*images, out, window);
        WithType(out, [&](auto type) {
          using T = decltype(type);
          Divide(pool, w, [&](int64_t n) {
            Backward(w, n, Data<T>(out), Data<uint8_t>(where), Data<T>(*images));
          });
        });
      });
    }),
    ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Array>().Arg<Array>().Ret<Array>()
        .Attr<Numbers>("window"));

#pragma GCC visibility pop
