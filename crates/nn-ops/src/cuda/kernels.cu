// The kernels of nn-ops for NVIDIA's GPUs, compiled at run time (NVRTC) without any header.
//
// Storage is f32, bf16 or f16; arithmetic is f32 throughout. Every sum has a fixed order: no atomics. A kernel NAME
// exists as NAME_f32, NAME_bf16 and NAME_f16, the type of its pictures; parameters and statistics are f32.
// Arguments: inputs, output, then sizes (i64) and constants (f32).

typedef long long i64;
typedef unsigned long long u64;
struct bf16 { unsigned short bits; };
struct f16 { unsigned short bits; };

__device__ __forceinline__ float load(float v) { return v; }
__device__ __forceinline__ float load(bf16 v) { return __uint_as_float((unsigned)v.bits << 16); }
__device__ __forceinline__ float load(f16 v) {
    float r;
    asm("cvt.f32.f16 %0, %1;" : "=f"(r) : "h"(v.bits));
    return r;
}
__device__ __forceinline__ void store(float *p, float v) { *p = v; }
__device__ __forceinline__ void store(bf16 *p, float v) {
    unsigned u = __float_as_uint(v);
    // To the nearest, ties to even; a NaN keeps being one.
    p->bits = v == v ? (unsigned short)((u + 0x7fffu + ((u >> 16) & 1u)) >> 16) : (unsigned short)0x7fff;
}
__device__ __forceinline__ void store(f16 *p, float v) {
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(p->bits) : "f"(v));
}

__device__ __forceinline__ i64 item() { return (i64)blockIdx.x * blockDim.x + threadIdx.x; }

// Sum over the block, the same in all its threads. blockDim.x is a power of two up to 1024.
__device__ __forceinline__ float block_sum(float v) {
    __shared__ float part[1024];
    part[threadIdx.x] = v;
    __syncthreads();
    for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) part[threadIdx.x] += part[threadIdx.x + half];
        __syncthreads();
    }
    float sum = part[0];
    __syncthreads();
    return sum;
}

__device__ __forceinline__ float block_max(float v) {
    __shared__ float part[1024];
    part[threadIdx.x] = v;
    __syncthreads();
    for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) part[threadIdx.x] = fmaxf(part[threadIdx.x], part[threadIdx.x + half]);
        __syncthreads();
    }
    float max = part[0];
    __syncthreads();
    return max;
}

// ---- activations: kind 0 none, 1 SiLU, 2 LeakyReLU ----
__device__ __forceinline__ float act(float u, int kind, float slope) {
    if (kind == 1) return u / (1.f + expf(-u));
    if (kind == 2) return u > 0.f ? u : slope * u;
    return u;
}
__device__ __forceinline__ float act_slope(float u, int kind, float slope) {
    if (kind == 1) {
        float s = 1.f / (1.f + expf(-u));
        return s * (1.f + u * (1.f - s));
    }
    if (kind == 2) return u > 0.f ? 1.f : slope;
    return 1.f;
}

template <typename T> __device__ void activation(const T *x, T *y, i64 n, i64 kind, float slope) {
    i64 i = item();
    if (i < n) store(y + i, act(load(x[i]), (int)kind, slope));
}
template <typename T> __device__ void activation_grad(const T *x, const T *dy, T *dx, i64 n, i64 kind, float slope) {
    i64 i = item();
    if (i < n) store(dx + i, load(dy[i]) * act_slope(load(x[i]), (int)kind, slope));
}

// ---- sums ----
template <typename T> __device__ void add_scaled(const T *a, const T *b, T *y, i64 n, float k) {
    i64 i = item();
    if (i < n) store(y + i, (load(a[i]) + load(b[i])) * k);
}
// y[n][c][p] = x + b[c]
template <typename T> __device__ void add_bias(const T *x, const T *b, T *y, i64 n, i64 c, i64 pixels) {
    i64 i = item();
    if (i < n) store(y + i, load(x[i]) + load(b[i / pixels % c]));
}
// b[c] = sum of dy over pictures and pixels; a block per channel
template <typename T> __device__ void channel_sum(const T *dy, T *b, i64 n, i64 c, i64 pixels) {
    float sum = 0.f;
    for (i64 i = threadIdx.x; i < n * pixels; i += blockDim.x)
        sum += load(dy[(i / pixels * c + blockIdx.x) * pixels + i % pixels]);
    sum = block_sum(sum);
    if (threadIdx.x == 0) store(b + blockIdx.x, sum);
}

// ---- doubling and halving; n counts outputs ----
// y (2 h, 2 w) = factor * x (h, w), every pixel four times
template <typename T> __device__ void repeat2x(const T *x, T *y, i64 n, i64 h, i64 w, float factor) {
    i64 i = item();
    if (i >= n) return;
    i64 col = i % (2 * w), row = i / (2 * w) % (2 * h), plane = i / (4 * h * w);
    store(y + i, factor * load(x[(plane * h + row / 2) * w + col / 2]));
}
// y (h, w) = factor * sums of 2 x 2 pixels of x (2 h, 2 w)
template <typename T> __device__ void gather2x(const T *x, T *y, i64 n, i64 h, i64 w, float factor) {
    i64 i = item();
    if (i >= n) return;
    i64 col = i % w, row = i / w % h, plane = i / (h * w);
    const T *p = x + (plane * 2 * h + 2 * row) * 2 * w + 2 * col;
    store(y + i, factor * ((load(p[0]) + load(p[1])) + (load(p[2 * w]) + load(p[2 * w + 1]))));
}
template <typename T> __device__ void bilinear2x(const T *x, T *y, i64 n, i64 h, i64 w) {
    i64 i = item();
    if (i >= n) return;
    i64 col = i % (2 * w), row = i / (2 * w) % (2 * h), plane = i / (4 * h * w);
    i64 r = row / 2, q = col / 2;
    i64 r2 = row % 2 ? (r + 1 < h ? r + 1 : h - 1) : (r > 0 ? r - 1 : 0);
    i64 q2 = col % 2 ? (q + 1 < w ? q + 1 : w - 1) : (q > 0 ? q - 1 : 0);
    const T *p = x + plane * h * w;
    float near = .75f * load(p[r * w + q]) + .25f * load(p[r2 * w + q]);
    float far = .75f * load(p[r * w + q2]) + .25f * load(p[r2 * w + q2]);
    store(y + i, .75f * near + .25f * far);
}
// The transpose: n counts pixels of dx (h, w).
template <typename T> __device__ void bilinear2x_grad(const T *dy, T *dx, i64 n, i64 h, i64 w) {
    i64 i = item();
    if (i >= n) return;
    i64 col = i % w, row = i / w % h, plane = i / (h * w);
    i64 rows[4] = {2 * row, 2 * row + 1, row > 0 ? 2 * row - 1 : 0, row + 1 < h ? 2 * row + 2 : 2 * h - 1};
    i64 cols[4] = {2 * col, 2 * col + 1, col > 0 ? 2 * col - 1 : 0, col + 1 < w ? 2 * col + 2 : 2 * w - 1};
    float sum = 0.f;
    for (int a = 0; a < 4; a++) {
        const T *line = dy + (plane * 2 * h + rows[a]) * 2 * w;
        float across = .75f * (load(line[cols[0]]) + load(line[cols[1]])) + .25f * (load(line[cols[2]]) + load(line[cols[3]]));
        sum += (a < 2 ? .75f : .25f) * across;
    }
    store(dx + i, sum);
}

// ---- 2 x 2 maxima: x (h, w), y (h / 2, w / 2); a NaN is larger than anything ----
template <typename T> __device__ int first_max(const T *x, i64 plane, i64 row, i64 col, i64 h, i64 w, float *value) {
    int best = 0;
    float v = load(x[(plane * h + 2 * row) * w + 2 * col]);
    for (int k = 1; k < 4; k++) {
        float u = load(x[(plane * h + 2 * row + k / 2) * w + 2 * col + k % 2]);
        if (u > v || u != u) { best = k; v = u; }
    }
    *value = v;
    return best;
}
template <typename T> __device__ void max2x(const T *x, T *y, i64 n, i64 h, i64 w) {
    i64 i = item();
    if (i >= n) return;
    i64 oh = h / 2, ow = w / 2;
    float v;
    first_max(x, i / (oh * ow), i / ow % oh, i % ow, h, w, &v);
    store(y + i, v);
}
template <typename T> __device__ void max2x_grad(const T *x, const T *dy, T *dx, i64 n, i64 h, i64 w) {
    i64 i = item();
    if (i >= n) return;
    i64 oh = h / 2, ow = w / 2;
    i64 col = i % w, row = i / w % h, plane = i / (h * w);
    float d = 0.f, v;
    if (row / 2 < oh && col / 2 < ow) {
        int k = first_max(x, plane, row / 2, col / 2, h, w, &v);
        if (k == (int)(row % 2 * 2 + col % 2)) d = load(dy[(plane * oh + row / 2) * ow + col / 2]);
    }
    store(dx + i, d);
}

// ---- zeros between, padding, FIR filter, every n-th pixel, along both axes at once ----
struct Taps { float value[32]; };
template <typename T>
__device__ void upfirdn(const T *x, T *y, i64 n, i64 h, i64 w, i64 oh, i64 ow, i64 up, i64 down, i64 before, i64 count, Taps taps) {
    i64 i = item();
    if (i >= n) return;
    i64 col = i % ow, row = i / ow % oh, plane = i / (oh * ow);
    float sum = 0.f;
    for (i64 a = 0; a < count; a++) {
        i64 r = row * down + a - before;
        if (r < 0 || r % up != 0 || r / up >= h) continue;
        float line = 0.f;
        for (i64 b = 0; b < count; b++) {
            i64 q = col * down + b - before;
            if (q >= 0 && q % up == 0 && q / up < w) line += taps.value[b] * load(x[(plane * h + r / up) * w + q / up]);
        }
        sum += taps.value[a] * line;
    }
    store(y + i, sum);
}

// ---- softmax of scale * x along rows of `len`; a block per row ----
template <typename T> __device__ void softmax(const T *x, T *y, i64 len, float scale) {
    const T *row = x + (i64)blockIdx.x * len;
    float max = __int_as_float((int)0xff800000u);
    for (i64 i = threadIdx.x; i < len; i += blockDim.x) max = fmaxf(max, load(row[i]));
    max = block_max(max);
    float sum = 0.f;
    for (i64 i = threadIdx.x; i < len; i += blockDim.x) sum += expf((load(row[i]) - max) * scale);
    float r = 1.f / block_sum(sum);
    for (i64 i = threadIdx.x; i < len; i += blockDim.x)
        store(y + (i64)blockIdx.x * len + i, expf((load(row[i]) - max) * scale) * r);
}
template <typename T> __device__ void softmax_grad(const T *p, const T *dp, T *dx, i64 len, float scale) {
    i64 from = (i64)blockIdx.x * len;
    float dot = 0.f;
    for (i64 i = threadIdx.x; i < len; i += blockDim.x) dot += load(p[from + i]) * load(dp[from + i]);
    dot = block_sum(dot);
    for (i64 i = threadIdx.x; i < len; i += blockDim.x)
        store(dx + from + i, (load(dp[from + i]) - dot) * load(p[from + i]) * scale);
}

// ---- group normalisation: x (N, C, P), `width` channels per group, a block per picture and group ----
// Scale and shift are (C), or (N, C) where `rows` is 1.
template <typename T> __device__ void group_stats(const T *x, i64 m, float eps, float *mean, float *rstd) {
    float sum = 0.f;
    for (i64 i = threadIdx.x; i < m; i += blockDim.x) sum += load(x[i]);
    float rough = block_sum(sum) / (float)m;
    // Around the rounded mean, corrected for its rounding: right for pictures far from zero too.
    float first = 0.f, second = 0.f;
    for (i64 i = threadIdx.x; i < m; i += blockDim.x) {
        float d = load(x[i]) - rough;
        first += d;
        second += d * d;
    }
    first = block_sum(first) / (float)m;
    second = block_sum(second) / (float)m;
    *mean = rough + first;
    *rstd = 1.f / sqrtf(fmaxf(second - first * first, 0.f) + eps);
}
template <typename T>
__device__ void group_norm(const T *x, const float *scale, const float *shift, T *y, i64 groups, i64 width, i64 pixels, i64 rows, i64 kind, float eps) {
    i64 n = blockIdx.x / groups, g = blockIdx.x % groups, m = width * pixels, from = blockIdx.x * m;
    float mean, rstd;
    group_stats(x + from, m, eps, &mean, &rstd);
    for (i64 i = threadIdx.x; i < m; i += blockDim.x) {
        i64 ch = g * width + i / pixels, p = rows ? n * groups * width + ch : ch;
        store(y + from + i, act((load(x[from + i]) - mean) * (rstd * scale[p]) + shift[p], (int)kind, 0.f));
    }
}
// out: N C sums of du, N C sums of du * normalised x, N G means, N G reciprocal deviations
template <typename T>
__device__ void group_norm_sums(const T *x, const T *dy, const float *scale, const float *shift, float *out, i64 pictures, i64 groups, i64 width, i64 pixels, i64 rows, i64 kind, float eps) {
    i64 n = blockIdx.x / groups, g = blockIdx.x % groups, m = width * pixels, from = blockIdx.x * m, all = pictures * groups * width;
    float mean, rstd;
    group_stats(x + from, m, eps, &mean, &rstd);
    for (i64 w = 0; w < width; w++) {
        i64 ch = g * width + w, at = n * groups * width + ch, p = rows ? at : ch;
        float a = rstd * scale[p], b = shift[p], s1 = 0.f, s2 = 0.f;
        for (i64 i = threadIdx.x; i < pixels; i += blockDim.x) {
            float d = load(x[from + w * pixels + i]) - mean;
            float du = load(dy[from + w * pixels + i]) * act_slope(d * a + b, (int)kind, 0.f);
            s1 += du;
            s2 += du * d;
        }
        s1 = block_sum(s1);
        s2 = block_sum(s2) * rstd;
        if (threadIdx.x == 0) { out[at] = s1; out[all + at] = s2; }
    }
    if (threadIdx.x == 0) { out[2 * all + blockIdx.x] = mean; out[2 * all + pictures * groups + blockIdx.x] = rstd; }
}
template <typename T>
__device__ void group_norm_grad(const T *x, const T *dy, const float *scale, const float *shift, const float *sums, T *dx, i64 pictures, i64 groups, i64 width, i64 pixels, i64 rows, i64 kind) {
    i64 n = blockIdx.x / groups, g = blockIdx.x % groups, m = width * pixels, from = blockIdx.x * m, all = pictures * groups * width;
    float mean = sums[2 * all + blockIdx.x], rstd = sums[2 * all + pictures * groups + blockIdx.x], m1 = 0.f, m2 = 0.f;
    for (i64 w = 0; w < width; w++) {
        i64 ch = g * width + w, at = n * groups * width + ch;
        float s = scale[rows ? at : ch];
        m1 += sums[at] * s;
        m2 += sums[all + at] * s;
    }
    m1 /= (float)m;
    m2 /= (float)m;
    for (i64 i = threadIdx.x; i < m; i += blockDim.x) {
        i64 ch = g * width + i / pixels, p = rows ? n * groups * width + ch : ch;
        float a = rstd * scale[p], d = load(x[from + i]) - mean;
        float du = load(dy[from + i]) * act_slope(d * a + shift[p], (int)kind, 0.f);
        store(dx + from + i, du * a - rstd * (m1 + d * rstd * m2));
    }
}

// ---- batch normalisation: x (N, C, P); a block per channel, or per picture and channel ----
// out: C means, C biased variances
template <typename T> __device__ void batch_stats(const T *x, float *out, i64 n, i64 c, i64 pixels) {
    i64 m = n * pixels, ch = blockIdx.x;
    float sum = 0.f;
    for (i64 i = threadIdx.x; i < m; i += blockDim.x) sum += load(x[(i / pixels * c + ch) * pixels + i % pixels]);
    float rough = block_sum(sum) / (float)m, first = 0.f, second = 0.f;
    for (i64 i = threadIdx.x; i < m; i += blockDim.x) {
        float d = load(x[(i / pixels * c + ch) * pixels + i % pixels]) - rough;
        first += d;
        second += d * d;
    }
    first = block_sum(first) / (float)m;
    second = block_sum(second) / (float)m;
    if (threadIdx.x == 0) { out[ch] = rough + first; out[c + ch] = fmaxf(second - first * first, 0.f); }
}
template <typename T>
__device__ void batch_norm(const T *x, const float *scale, const float *shift, const float *stats, T *y, i64 n, i64 c, i64 pixels, float eps) {
    i64 i = item();
    if (i >= n) return;
    i64 ch = i / pixels % c;
    store(y + i, (load(x[i]) - stats[ch]) * (scale[ch] / sqrtf(stats[c + ch] + eps)) + shift[ch]);
}
// out: C sums of dy, C sums of dy * normalised x
template <typename T>
__device__ void batch_norm_sums(const T *x, const T *dy, const float *stats, float *out, i64 n, i64 c, i64 pixels, float eps) {
    i64 m = n * pixels, ch = blockIdx.x;
    float mean = stats[ch], s1 = 0.f, s2 = 0.f;
    for (i64 i = threadIdx.x; i < m; i += blockDim.x) {
        i64 at = (i / pixels * c + ch) * pixels + i % pixels;
        float d = load(dy[at]);
        s1 += d;
        s2 += d * (load(x[at]) - mean);
    }
    s1 = block_sum(s1);
    s2 = block_sum(s2) / sqrtf(stats[c + ch] + eps);
    if (threadIdx.x == 0) { out[ch] = s1; out[c + ch] = s2; }
}
template <typename T>
__device__ void batch_norm_grad(const T *x, const T *dy, const float *scale, const float *stats, const float *sums, T *dx, i64 n, i64 c, i64 pixels, i64 m, i64 of_batch, float eps) {
    i64 i = item();
    if (i >= n) return;
    i64 ch = i / pixels % c;
    float rstd = 1.f / sqrtf(stats[c + ch] + eps), d = load(dy[i]);
    if (of_batch) d -= (sums[ch] + (load(x[i]) - stats[ch]) * rstd * sums[c + ch]) / (float)m;
    store(dx + i, d * rstd * scale[ch]);
}

// ---- sums of squares: a block per gradient row of the table, out f32 per block ----
// One launch for all variables: a table says where each lies. Blocks of `span` elements; row r has blocks from row.block on.
struct Row { u64 p, g, at, len, block; float a, b; };
__device__ __forceinline__ Row find(const Row *rows, i64 count, i64 block) {
    i64 low = 0, high = count;
    while (high - low > 1) {
        i64 middle = (low + high) / 2;
        if ((i64)rows[middle].block <= block) low = middle; else high = middle;
    }
    return rows[low];
}
extern "C" __global__ void sum_of_squares(const Row *rows, float *out, i64 count, i64 span) {
    Row r = find(rows, count, blockIdx.x);
    i64 from = ((i64)blockIdx.x - r.block) * span, to = from + span < (i64)r.len ? from + span : (i64)r.len;
    const float *g = (const float *)r.g;
    float sum = 0.f;
    for (i64 i = from + threadIdx.x; i < to; i += blockDim.x) sum += g[i] * g[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) out[blockIdx.x] = sum;
}
// a: lr / (1 - beta1^t), b: 1 / sqrt(1 - beta2^t) of the variable's own step t
extern "C" __global__ void adamw(const Row *rows, float *first, float *second, i64 count, i64 span, float rest1, float beta2, float rest2, float decay, float eps) {
    Row r = find(rows, count, blockIdx.x);
    i64 from = ((i64)blockIdx.x - r.block) * span, to = from + span < (i64)r.len ? from + span : (i64)r.len;
    float *p = (float *)r.p, *m = first + r.at, *v = second + r.at;
    const float *g = (const float *)r.g;
    for (i64 i = from + threadIdx.x; i < to; i += blockDim.x) {
        float d = g[i], mi = m[i] + (d - m[i]) * rest1, vi = v[i] * beta2 + d * d * rest2;
        m[i] = mi;
        v[i] = vi;
        p[i] = p[i] * decay - r.a * mi / (sqrtf(vi) * r.b + eps);
    }
}
extern "C" __global__ void ema(const Row *rows, float *shadow, i64 count, i64 span, float keep) {
    Row r = find(rows, count, blockIdx.x);
    i64 from = ((i64)blockIdx.x - r.block) * span, to = from + span < (i64)r.len ? from + span : (i64)r.len;
    const float *p = (const float *)r.p;
    float *s = shadow + r.at;
    for (i64 i = from + threadIdx.x; i < to; i += blockDim.x) s[i] = p[i] + (s[i] - p[i]) * keep;
}

// ---- the names that the program asks for ----
#define KERNELS(T) \
    extern "C" __global__ void activation_##T(const T *x, T *y, i64 n, i64 kind, float slope) { activation(x, y, n, kind, slope); } \
    extern "C" __global__ void activation_grad_##T(const T *x, const T *dy, T *dx, i64 n, i64 kind, float slope) { activation_grad(x, dy, dx, n, kind, slope); } \
    extern "C" __global__ void add_scaled_##T(const T *a, const T *b, T *y, i64 n, float k) { add_scaled(a, b, y, n, k); } \
    extern "C" __global__ void add_bias_##T(const T *x, const T *b, T *y, i64 n, i64 c, i64 pixels) { add_bias(x, b, y, n, c, pixels); } \
    extern "C" __global__ void channel_sum_##T(const T *dy, T *b, i64 n, i64 c, i64 pixels) { channel_sum(dy, b, n, c, pixels); } \
    extern "C" __global__ void repeat2x_##T(const T *x, T *y, i64 n, i64 h, i64 w, float k) { repeat2x(x, y, n, h, w, k); } \
    extern "C" __global__ void gather2x_##T(const T *x, T *y, i64 n, i64 h, i64 w, float k) { gather2x(x, y, n, h, w, k); } \
    extern "C" __global__ void bilinear2x_##T(const T *x, T *y, i64 n, i64 h, i64 w) { bilinear2x(x, y, n, h, w); } \
    extern "C" __global__ void bilinear2x_grad_##T(const T *dy, T *dx, i64 n, i64 h, i64 w) { bilinear2x_grad(dy, dx, n, h, w); } \
    extern "C" __global__ void max2x_##T(const T *x, T *y, i64 n, i64 h, i64 w) { max2x(x, y, n, h, w); } \
    extern "C" __global__ void max2x_grad_##T(const T *x, const T *dy, T *dx, i64 n, i64 h, i64 w) { max2x_grad(x, dy, dx, n, h, w); } \
    extern "C" __global__ void upfirdn_##T(const T *x, T *y, i64 n, i64 h, i64 w, i64 oh, i64 ow, i64 up, i64 down, i64 before, i64 count, Taps taps) { upfirdn(x, y, n, h, w, oh, ow, up, down, before, count, taps); } \
    extern "C" __global__ void softmax_##T(const T *x, T *y, i64 len, float scale) { softmax(x, y, len, scale); } \
    extern "C" __global__ void softmax_grad_##T(const T *p, const T *dp, T *dx, i64 len, float scale) { softmax_grad(p, dp, dx, len, scale); } \
    extern "C" __global__ void group_norm_##T(const T *x, const float *s, const float *h, T *y, i64 g, i64 w, i64 px, i64 rows, i64 kind, float eps) { group_norm(x, s, h, y, g, w, px, rows, kind, eps); } \
    extern "C" __global__ void group_norm_sums_##T(const T *x, const T *dy, const float *s, const float *h, float *out, i64 n, i64 g, i64 w, i64 px, i64 rows, i64 kind, float eps) { group_norm_sums(x, dy, s, h, out, n, g, w, px, rows, kind, eps); } \
    extern "C" __global__ void group_norm_grad_##T(const T *x, const T *dy, const float *s, const float *h, const float *sums, T *dx, i64 n, i64 g, i64 w, i64 px, i64 rows, i64 kind) { group_norm_grad(x, dy, s, h, sums, dx, n, g, w, px, rows, kind); } \
    extern "C" __global__ void batch_stats_##T(const T *x, float *out, i64 n, i64 c, i64 px) { batch_stats(x, out, n, c, px); } \
    extern "C" __global__ void batch_norm_##T(const T *x, const float *s, const float *h, const float *stats, T *y, i64 n, i64 c, i64 px, float eps) { batch_norm(x, s, h, stats, y, n, c, px, eps); } \
    extern "C" __global__ void batch_norm_sums_##T(const T *x, const T *dy, const float *stats, float *out, i64 n, i64 c, i64 px, float eps) { batch_norm_sums(x, dy, stats, out, n, c, px, eps); } \
    extern "C" __global__ void batch_norm_grad_##T(const T *x, const T *dy, const float *s, const float *stats, const float *sums, T *dx, i64 n, i64 c, i64 px, i64 m, i64 of_batch, float eps) { batch_norm_grad(x, dy, s, stats, sums, dx, n, c, px, m, of_batch, eps); }

typedef float f32;
KERNELS(f32)
KERNELS(bf16)
KERNELS(f16)
