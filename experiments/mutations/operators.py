"""Tables of the changes that mutants make, and of the code that they leave alone."""

import ast

COMPARISONS = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
ARITHMETIC = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Add, ast.Pow: ast.Mult,
}  # fmt: skip
_PAIRS = (
    ("min", "max"), ("amin", "amax"), ("argmin", "argmax"), ("minimum", "maximum"), ("mean", "sum"),
    ("any", "all"), ("floor", "ceil"), ("sin", "cos"), ("exp", "log"), ("zeros", "ones"), ("sqrt", "square"),
)  # fmt: skip
SWAPPED = {a: b for pair in _PAIRS for a, b in (pair, pair[::-1])}
# Methods and functions of one tensor that a mutant leaves out: x.detach() and F.normalize(x) become x.
REMOVABLE = {
    "abs", "clamp", "clip", "contiguous", "copy", "deepcopy", "detach", "eval", "exp", "flatten", "float",
    "log", "normalize", "requires_grad_", "reversed", "round", "sigmoid", "sign", "softmax", "sorted", "sqrt",
    "square", "standardized", "tanh", "train", "unique",
}  # fmt: skip
# Calls whose arguments are messages, progress bars or labels, which cannot change a number.
MESSAGES = {
    "ConfigError", "BadImageError", "ValueError", "tqdm", "trange", "Metric", "did_you_mean", "savefig",
}  # fmt: skip
MESSAGE_ARGUMENTS = {"hint", "suggest", "desc", "unit", "leave", "disable", "doc"}
# Arguments for speed, for a GPU or for the size of a picture.
NEUTRAL_ARGUMENTS = {
    "device", "dpi", "non_blocking", "num_workers", "persistent_workers", "pin_memory", "strict",
}  # fmt: skip
FIGURES = ("draw", "_draw", "draw_attention")  # functions that draw a figure
MODES = ("no_grad", "inference_mode", "enable_grad")  # decorators that a mutant removes
