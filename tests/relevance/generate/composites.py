"""The composites: which rule serves which kind of operation, and with which parameters.

`choose` is given what the operation is (`kind`, and words that say more about it) and returns a rule's name and its
parameters, or raises `KeyError`. The texts are those of the command line: `epsilon(eps=0.25, bias=exclude)`.
"""

import re

DEFAULTS = {
    "epsilon": {"eps": 1e-6, "bias": "include", "add": "SignedRatio", "half": "gate", "norm": "NormEpsilon", "softmax": "AttnSoftmax"},
}
EXTENDS = {
    "epsilon": (None, {}),
    "lrp-0": ("epsilon", {"eps": 0.0}),
    "epsilon-plus": ("epsilon", {}),
    "epsilon-plus-flat": ("epsilon-plus", {}),
    "epsilon-alpha2-beta1": ("epsilon", {"alpha": 2.0, "beta": 1.0}),
    "epsilon-alpha2-beta1-flat": ("epsilon-alpha2-beta1", {}),
    "excitation-backprop": ("epsilon", {}),
    "gamma": ("epsilon", {"gamma": 0.25}),
    "epsilon-gamma-box": ("gamma", {"low": "auto", "high": "auto"}),
    "attnlrp": ("epsilon", {"eps": 0.0}),
    "cp-lrp": ("attnlrp", {}),
    "relp": ("attnlrp", {}),
    "vit": ("cp-lrp", {"conv_gamma": 130.0, "linear_gamma": 0.001, "gamma_eps": 1e-6}),
    "mamba": ("attnlrp", {}),
    "dynamiclrp": ("epsilon", {"eps": 1e-11, "bias": "operand", "add": "AbsRatio", "norm": "NormIdentity", "conv_gamma": 0.0, "linear_gamma": 0.0}),
    "resnet-symmetric": ("epsilon-plus-flat", {"add": "Symmetric"}),
    "resnet-ratio": ("resnet-symmetric", {"add": "AbsRatio"}),
    "gradient": (None, {}),
    "input-x-gradient": ("gradient", {}),
}


class Composite:
    """A composite with its parameters. `carrier` is `R` or `g`; `ledger` is false for gradients."""

    def __init__(self, text):
        name, given = re.fullmatch(r"([\w-]+)(?:\((.*)\))?", text).groups()
        self.text, self.name, self.lineage = text, name, []
        while name:
            self.lineage.append(name)
            name = EXTENDS[name][0]
        self.p = dict(DEFAULTS["epsilon"]) if "epsilon" in self.lineage else {}
        for ancestor in reversed(self.lineage):
            self.p.update(EXTENDS[ancestor][1])
        for key, value in re.findall(r"(\w+)=(\[[^\]]*\]|[^,\s]+)", given or ""):
            self.p[key] = parsed(value)
        self.gradient = "gradient" in self.lineage
        self.carrier = "g" if self.gradient or "attnlrp" in self.lineage else "R"
        self.result = "gradient" if self.name == "gradient" else "relevance"

    def with_p(self, *names, **more):
        found = {name: self.p[name] for name in (*names, "stabiliser") if name in self.p}
        return {**found, **more}

    def choose(self, kind, words):
        """`words` are among: conv first residual bias pooling relu maxpool gate frozen gated attention selective pointwise."""
        if self.gradient:
            return "Gradient", {}
        for name in self.lineage:
            found = getattr(self, "of_" + name.replace("-", "_"), lambda *_: None)(kind, words)
            if found:
                return found
        raise KeyError(f"{self.text} has no rule for {kind}")

    # One function for each composite that has entries of its own, in the order in which they are tried.

    def of_epsilon(self, kind, words):
        if kind == "linear":
            return "Epsilon", self.with_p("eps", "bias")
        if kind == "additive":
            if "residual" in words:
                return self.p["add"], self.with_p("eps")
            return "SignedRatio", self.with_p("eps", "bias")
        if kind == "bilinear":
            if "frozen" in words or ("gate" in words and self.p["half"] == "gate"):
                return "BoundedGate", {}
            return "Half", self.with_p("eps")
        if kind == "normalize":
            return self.p["norm"], self.with_p("eps")
        return {
            "elementwise": ("Identity", {}),
            "movement": ("Movement", {}),
            "select": ("Winner", {}),
            "softmax": (self.p["softmax"], {}),
        }[kind]

    def of_epsilon_plus(self, kind, words):
        if kind == "linear" and "conv" in words:
            return "ZPlus", self.with_p("eps", "bias")

    def of_epsilon_plus_flat(self, kind, words):
        if kind == "linear" and "first" in words:
            return "Flat", self.with_p("eps")

    def of_epsilon_alpha2_beta1(self, kind, words):
        if kind == "linear" and "conv" in words:
            return "AlphaBeta", self.with_p("alpha", "beta", "eps", "bias")

    def of_epsilon_alpha2_beta1_flat(self, kind, words):
        return self.of_epsilon_plus_flat(kind, words)

    def of_excitation_backprop(self, kind, words):
        if kind == "linear":
            return "ZPlus", self.with_p("eps", "bias")

    def of_gamma(self, kind, words):
        if kind == "linear" and "conv" in words:
            return "Gamma", self.with_p("gamma", "eps", "bias")

    def of_epsilon_gamma_box(self, kind, words):
        if kind == "linear" and "first" in words:
            return "ZBox", self.with_p("low", "high", "eps")

    def of_cp_lrp(self, kind, words):
        if kind == "bilinear" and "attention" in words:
            return "ValuePath", self.with_p("eps")
        if kind == "softmax" and "attention" in words:
            return "Stop", {}
        if kind == "bilinear" and "gated" in words:
            return "Gate", {}

    def of_relp(self, kind, words):
        return self.of_cp_lrp(kind, [word for word in words if word != "gated"])

    def of_vit(self, kind, words):
        if kind == "linear":
            slope = self.p["conv_gamma" if "conv" in words else "linear_gamma"]
            return "Gamma", self.with_p("bias", gamma=slope, eps=self.p["gamma_eps"])

    def of_mamba(self, kind, words):
        if kind == "bilinear" and "selective" in words:
            return "Selective", self.with_p("eps")

    def of_dynamiclrp(self, kind, words):
        if kind == "linear":
            slope = self.p["conv_gamma" if "conv" in words else "linear_gamma"]
            return "Gamma", self.with_p("eps", "bias", gamma=slope)
        if kind == "additive":
            if "residual" in words:
                return self.p["add"], self.with_p("eps")
            return ("UniformPool", {}) if "pooling" in words else ("AbsRatio", self.with_p("eps"))
        if kind == "bilinear" and "frozen" in words:
            return "BoundedGate", {}
        if kind == "bilinear" and "pointwise" in words:
            return "AbsRatio", self.with_p("eps")

    def of_resnet_symmetric(self, kind, words):
        if kind == "linear":
            return ("Flat", self.with_p("eps")) if "first" in words else ("ZPlus", self.with_p("eps", "bias"))
        if kind == "select" and "maxpool" in words:
            return "ProportionalPool", self.with_p("eps")


def parsed(value):
    """A parameter: a number, a list of numbers, or a word."""
    if value.startswith("["):
        return [float(item) for item in value[1:-1].split(",")]
    try:
        return float(value)
    except ValueError:
        return value
