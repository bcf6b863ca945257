"""Settings of the diffusion sampler: its reference, its noise levels and its two trainings."""

from __future__ import annotations

from dataclasses import dataclass, field

from pymc_multimodal import checks
from pymc_multimodal.proposals.device import check_device
from pymc_multimodal.proposals.families import RegionalFamilies

__all__ = ["ControlNetwork", "EnergyNetwork", "LRDSSettings"]

REFERENCES = ("gmm", "ebm", "gaussian")
PROCESSES = ("geometric", "variance-preserving", "pinned")
LOSSES = ("stepwise", "log-variance", "kl")
STARTS = ("reference", "normal")
KERNELS = ("exact", "exponential")

# Noise steps of a reference with exact kernels. Measured: examples/papers/lrds_control.py, which
# compares 4, 8 and 16 steps.
EXACT_STEPS = 8
# Its lowest noise level, in standard deviations of a mode.
# Measured: examples/benchmarks/constants.py
EXACT_MIN_NOISE = 0.1
# The same of an energy-based reference, whose kernels are approximations and need shorter steps.
# Measured: examples/benchmarks/constants.py
ENERGY_STEPS, ENERGY_MIN_NOISE = 32, 0.02
# Highest noise level in standard deviations of a mode: 1 / (1 + 3^2) = 10 % of the variance is
# signal there. Measured: examples/benchmarks/constants.py
MAX_NOISE = 3.0


@dataclass(frozen=True)
class ControlNetwork:
    """Settings of the training of a control.

    Parameters
    ----------
    hidden : int
        Width of both hidden layers.
    regression_steps, steps : int
        Steps of Adam on log ratios of points, and on paths; 0 leaves them out.
    regression_batch, batch : int
        Points, and paths, of one step.
    learning_rate : float
        Largest learning rate of the one-cycle schedule.
    rounds : int
        How many times fresh draws of the controlled chain are added to those trained on.
    evaluations : int
        Most density evaluations of one training. Two references may be tried. A training never
        takes more evaluations than the fit had spent before, and none once a limit is reached.
    huber_delta : float
        Nats beyond which a deviation of a log ratio counts linearly instead of squared.
    min_acceptance : float
        Expected acceptance of jumps from which on the reference serves alone: no control is
        trained. A value above 1 trains in any case.
    device : str
        "cpu", "cuda", another name torch knows, or "auto": "cuda" where there is one
        and a step of the training takes 1e9 floating-point operations. `generate` draws there if
        a call takes 1e10 or more, and with NumPy otherwise.

    Raises
    ------
    TypeError
        If a setting has the wrong type.
    ValueError
        If a setting is out of range, or torch cannot use the device.
    """

    hidden: int = 128
    regression_steps: int = 1500
    steps: int = 600
    regression_batch: int = 1024
    batch: int = 128
    learning_rate: float = 2e-2
    rounds: int = 6
    evaluations: int = 50_000
    huber_delta: float = 3.0
    min_acceptance: float = 0.6
    device: str = "auto"

    def __post_init__(self) -> None:
        owner = "ControlNetwork"
        for name in ("regression_steps", "steps"):
            checks.count(owner, name, getattr(self, name), 0)
        for name in ("hidden", "regression_batch", "batch", "rounds", "evaluations"):
            checks.count(owner, name, getattr(self, name))
        for name in ("learning_rate", "huber_delta", "min_acceptance"):
            checks.positive(owner, name, getattr(self, name), finite=True)
        check_device(owner, "device", self.device)


@dataclass(frozen=True)
class EnergyNetwork:
    """Settings of the training of an energy-based reference.

    Parameters
    ----------
    hidden : int
        Width of both hidden layers.
    steps : int
        Steps of Adam.
    batch : int
        Draws of each noise level in one step.
    chains : int
        Persistent Markov chains at each noise level; their states are the negative draws.
    moves : int
        Langevin moves of the chains for each step.
    learning_rate : float
        Learning rate at the start; a cosine schedule lowers it to 0.
    device : str
        "cpu", "cuda", another name torch knows, or "auto": "cuda" where there is one
        and a step of the training takes 1e9 floating-point operations.

    Raises
    ------
    TypeError
        If a setting has the wrong type.
    ValueError
        If a setting is out of range, or torch cannot use the device.
    """

    hidden: int = 128
    steps: int = 1000
    batch: int = 32
    chains: int = 32
    moves: int = 2
    learning_rate: float = 3e-3
    device: str = "auto"

    def __post_init__(self) -> None:
        owner = "EnergyNetwork"
        for name in ("hidden", "steps", "batch", "chains", "moves"):
            checks.count(owner, name, getattr(self, name))
        checks.positive(owner, "learning_rate", self.learning_rate, finite=True)
        check_device(owner, "device", self.device)


@dataclass(frozen=True)
class LRDSSettings:
    """Fields of `LRDS` and their checks; the docstring of `LRDS` says what they mean."""

    reference: str = "gmm"
    components: int | None = None
    process: str = "geometric"
    steps: int | None = None
    min_noise: float | None = None
    max_noise: float = MAX_NOISE
    loss: str = "stepwise"
    start: str = "reference"
    kernels: str = "exact"
    network: ControlNetwork = field(default_factory=ControlNetwork)
    energy: EnergyNetwork = field(default_factory=EnergyNetwork)
    train: bool = True
    defensive: float = 0.1
    regional: RegionalFamilies = field(
        default_factory=lambda: RegionalFamilies(families=("gaussian", "mixture"))
    )

    def __post_init__(self) -> None:
        self._check_choices()
        energy_based = self.reference == "ebm"
        if self.steps is None:
            object.__setattr__(self, "steps", ENERGY_STEPS if energy_based else EXACT_STEPS)
        if self.min_noise is None:
            least = ENERGY_MIN_NOISE if energy_based else EXACT_MIN_NOISE
            object.__setattr__(self, "min_noise", least)
        self._check_values()
        self._check_effects()
        self._check_combinations()

    @property
    def n_steps(self) -> int:
        """Noise steps K; the field `steps` is never None after construction."""
        assert self.steps is not None
        return self.steps

    @property
    def lowest_level(self) -> float:
        """Lowest noise level; the field `min_noise` is never None after construction."""
        assert self.min_noise is not None
        return self.min_noise

    def _check_choices(self) -> None:
        for name, options in (
            ("reference", REFERENCES),
            ("process", PROCESSES),
            ("loss", LOSSES),
            ("start", STARTS),
            ("kernels", KERNELS),
        ):
            checks.choice("LRDS", name, getattr(self, name), options)

    def _check_values(self) -> None:
        checks.count("LRDS", "steps", self.steps)
        if self.components is not None:
            checks.count("LRDS", "components", self.components)
        checks.positive("LRDS", "min_noise", self.min_noise, finite=True)
        checks.positive("LRDS", "max_noise", self.max_noise, finite=True)
        checks.kind("LRDS", "network", self.network, ControlNetwork)
        checks.kind("LRDS", "energy", self.energy, EnergyNetwork)
        checks.kind("LRDS", "regional", self.regional, RegionalFamilies)
        checks.flag("LRDS", "train", self.train)
        # Without a defensive part, the corrected draws need not be exact.
        checks.share("LRDS", "defensive", self.defensive)
        if not self.lowest_level < self.max_noise:
            raise ValueError(
                f"LRDS(min_noise={self.min_noise}, max_noise={self.max_noise}): the lowest noise "
                "level must be below the highest. Lower min_noise, or raise max_noise."
            )

    def _check_effects(self) -> None:
        """Raise ValueError for a setting that another one makes meaningless."""
        for name, ignored, cause in (
            ("start", self.start == "normal" and self.kernels != "exponential",
             "the exact kernels start from the noised reference; kernels='exponential' does not"),
            ("components", self.components is not None and self.reference == "gaussian",
             "reference='gaussian' has one"),
            ("max_noise", self.max_noise != MAX_NOISE and self.process != "geometric",
             f"process={self.process!r} sets the noise levels itself"),
        ):  # fmt: skip
            if ignored:
                raise ValueError(
                    f"LRDS({name}={getattr(self, name)!r}) would have no effect: {cause}. Leave it "
                    "out."
                )

    def _check_combinations(self) -> None:
        if "network" in self.regional.families:
            raise ValueError(
                f"LRDS(regional=RegionalFamilies(families={self.regional.families})): leave out "
                "'network', because the reference is made of Gaussian components."
            )
        if self.kernels == "exponential" and (
            self.process != "variance-preserving" or self.reference == "ebm"
        ):
            raise ValueError(
                f"LRDS(kernels='exponential', process={self.process!r}, "
                f"reference={self.reference!r}): exponential-integrator steps belong to the "
                "variance-preserving process and a mixture; an 'ebm' has steps of its own. Leave "
                "`kernels` out."
            )
