"""The operators that networks are made of."""

from search_spaces.operators.activations import ACTIVATIONS as ACTIVATIONS
from search_spaces.operators.activations import Activation as Activation
from search_spaces.operators.activations import Elu as Elu
from search_spaces.operators.activations import Gelu as Gelu
from search_spaces.operators.activations import GeluTanh as GeluTanh
from search_spaces.operators.activations import HardSigmoid as HardSigmoid
from search_spaces.operators.activations import HardSwish as HardSwish
from search_spaces.operators.activations import LeakyRelu as LeakyRelu
from search_spaces.operators.activations import Mish as Mish
from search_spaces.operators.activations import PRelu as PRelu
from search_spaces.operators.activations import Relu as Relu
from search_spaces.operators.activations import Relu6 as Relu6
from search_spaces.operators.activations import Sigmoid as Sigmoid
from search_spaces.operators.activations import Swish as Swish
from search_spaces.operators.activations import Tanh as Tanh
from search_spaces.operators.arithmetic import Arithmetic as Arithmetic
from search_spaces.operators.arithmetic import ChannelArithmetic as ChannelArithmetic
from search_spaces.operators.attention import Attention as Attention
from search_spaces.operators.attention import RelativeBias as RelativeBias
from search_spaces.operators.attention import RelativeTables as RelativeTables
from search_spaces.operators.axes import Axis as Axis
from search_spaces.operators.axes import Centre as Centre
from search_spaces.operators.axes import Groups as Groups
from search_spaces.operators.axes import Index as Index
from search_spaces.operators.axes import Parameter as Parameter
from search_spaces.operators.axes import Prefix as Prefix
from search_spaces.operators.axes import Segments as Segments
from search_spaces.operators.base import Operator as Operator
from search_spaces.operators.convert import Convert as Convert
from search_spaces.operators.joining import Add as Add
from search_spaces.operators.joining import ChannelsFirst as ChannelsFirst
from search_spaces.operators.joining import ChannelShuffle as ChannelShuffle
from search_spaces.operators.joining import ChannelsLast as ChannelsLast
from search_spaces.operators.joining import Concat as Concat
from search_spaces.operators.joining import Flatten as Flatten
from search_spaces.operators.joining import Multiply as Multiply
from search_spaces.operators.joining import Slice as Slice
from search_spaces.operators.joining import Subtract as Subtract
from search_spaces.operators.joining import ToPixel as ToPixel
from search_spaces.operators.linear import Conv2d as Conv2d
from search_spaces.operators.linear import Linear as Linear
from search_spaces.operators.norms import BatchNorm as BatchNorm
from search_spaces.operators.norms import GroupNorm as GroupNorm
from search_spaces.operators.norms import LayerNorm as LayerNorm
from search_spaces.operators.norms import Scale as Scale
from search_spaces.operators.pooling import AdaptiveAvgPool2d as AdaptiveAvgPool2d
from search_spaces.operators.pooling import AvgPool2d as AvgPool2d
from search_spaces.operators.pooling import GlobalAvgPool as GlobalAvgPool
from search_spaces.operators.pooling import GlobalMaxPool as GlobalMaxPool
from search_spaces.operators.pooling import MaxPool2d as MaxPool2d
from search_spaces.operators.pooling import Pool2d as Pool2d
from search_spaces.operators.pooling import Resize as Resize
from search_spaces.operators.tokens import AddPositions as AddPositions
from search_spaces.operators.tokens import ImageToTokens as ImageToTokens
from search_spaces.operators.tokens import MeanTokens as MeanTokens
from search_spaces.operators.tokens import PrependTokens as PrependTokens
from search_spaces.operators.tokens import TakeToken as TakeToken
from search_spaces.operators.tokens import TokensToImage as TokensToImage
from search_spaces.operators.window_attention import MergeTokens as MergeTokens
from search_spaces.operators.window_attention import WindowAttention as WindowAttention

OPERATORS: tuple[type[Operator], ...] = (
    Conv2d, Linear, BatchNorm, LayerNorm, GroupNorm, Scale, Relu, Relu6, HardSwish, Swish, Sigmoid,
    HardSigmoid, Gelu, GeluTanh, Mish, LeakyRelu, PRelu, Elu, Tanh, Arithmetic, ChannelArithmetic,
    AvgPool2d, MaxPool2d, GlobalAvgPool, GlobalMaxPool, AdaptiveAvgPool2d, Resize, Add, Subtract, Multiply,
    Concat, Slice, ChannelShuffle, ChannelsLast, ChannelsFirst, Flatten, ToPixel, Convert,
    ImageToTokens, TokensToImage, PrependTokens, AddPositions, Attention, TakeToken, MeanTokens,
    WindowAttention, MergeTokens,
)  # fmt: skip
"""Every operator; each has an entry in the tables of torch, ONNX, latency, file size and quantisation."""
