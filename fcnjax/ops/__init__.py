"""Operators: array to array, without parameters and without Flax.

Images are [batch, height, width, channels] everywhere.

Operators that XLA does badly take an `implementation`; "auto" is chosen by
platform and shape, by the measurements of docs/performance.md.

spatial        what each operator does where rows are spread over devices
windows        sliding windows as shifts of the whole map, and their transpose
pooling        max_pool_with_argmax, max_unpool: windows that tile the image,
               with the place of each maximum as a uint8 or in 2 bits
max_pooling    max_pool: without places, and windows may overlap; local_max:
               around each pixel
indices        such places in 2 bits, and as flat indices of torch, TensorFlow
averaging      adaptive_avg_pool: any number of bins; local_mean: around pixels
convolution    conv: plain, grouped or dilated, in whichever form is fast;
               kernel_of_dense: a classifier's layer as a convolution
winograd, row_blocks, interleaved
               forms of it: with half of the multiplications, with the filter
               gradient by rows, and as a dense one of every r-th pixel
depthwise      depthwise_conv: each channel with its own kernel
transposed     transposed_conv (learned), bilinear_deconv (fixed)
resizing       resize_bilinear, resize_nearest for labels, bilinear_filter and
               bilinear_kernel, crop, center_crop
upsampled      what is made of interpolated scores, by tiles: upsampled_argmax,
               map_tiles, sum_tiles; the loss of them is
               losses.total_upsampled_cross_entropy
normalization  local_response_norm, local_contrast_norm
attention      channel_attention, cosine_similarity
shift_and_stitch  shift_and_stitch, rarefied: dense predictions, two ways

Import the module, not its names: `from fcnjax.ops import pooling`.
"""
