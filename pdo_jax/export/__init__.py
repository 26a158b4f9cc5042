"""From a trained network to one that is deployed, and from the weights of other programs to ours.

fold                            equivariant layers become plain convolutions
save, load                      StableHLO in one file, through `jax.export`
save_onnx                       ONNX, with the extra `onnx`
from_tensorflow, to_tensorflow  the layout of the published PDO-eConv source
"""

from pdo_jax.export.folding import FoldedConv as FoldedConv
from pdo_jax.export.folding import fold as fold
from pdo_jax.export.onnx import save_onnx as save_onnx
from pdo_jax.export.program import Program as Program
from pdo_jax.export.program import load as load
from pdo_jax.export.program import save as save
from pdo_jax.export.tensorflow import from_tensorflow as from_tensorflow
from pdo_jax.export.tensorflow import to_tensorflow as to_tensorflow
