"""Which operators are of which kind."""

LINEAR = ("Conv", "ConvTranspose", "MatMul", "Gemm", "Einsum")
CONVOLUTIONS = ("Conv", "ConvTranspose")
SUMS = (
    "Add Sub Sum Mean ReduceSum ReduceMean AveragePool GlobalAveragePool CumSum Resize Upsample ScatterAdd GridSample"
    " Col2Im RoiAlign RotaryEmbedding"
).split()
# Integers that stand for numbers carry relevance as these do.
KEEPS_INTEGERS = ("QuantizeLinear", "Reshape", "Transpose")
# What else is added or chosen may be infinite: a mask.
ADDITIONS = ("Add", "Sub", "Where", "Concat")
NORMS = ("LayerNormalization", "RMSNormalization", "InstanceNormalization", "GroupNormalization", "MeanVarianceNormalization", "LpNormalization", "LRN")
CHOICES = ("Max", "Min", "MaxPool", "GlobalMaxPool", "ReduceMax", "ReduceMin", "Where", "MaxRoiPool")
OPAQUE = (
    "Sign Round Floor Ceil Not And Or Xor Equal Greater Less GreaterOrEqual LessOrEqual ArgMax ArgMin IsNaN IsInf Shape Size"
    " Hardmax NonZero"
).split()
MOVING = (
    "Reshape Transpose Flatten Squeeze Unsqueeze Slice Pad Concat Split Expand Tile Gather GatherElements GatherND DepthToSpace"
    " SpaceToDepth Trilu ReverseSequence Compress ScatterElements ScatterND Scatter CenterCropPad TopK MaxUnpool TensorScatter"
    " Unsqueeze13"
).split()
