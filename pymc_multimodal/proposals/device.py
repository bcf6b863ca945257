"""The device that a network is trained on."""

from __future__ import annotations

from importlib.util import find_spec

__all__ = ["check_device"]


def check_device(owner: str, name: str, device: object) -> None:
    """Raise unless torch can train on a device.

    The check is made when settings are made, which may be hours before a network is trained.

    Parameters
    ----------
    owner : str
        Class that the argument belongs to.
    name : str
        The argument.
    device : object
        "auto", "cpu" or another name that torch knows.

    Raises
    ------
    TypeError
        If the device is not a name.
    ValueError
        If torch cannot compute on the device.
    """
    if not isinstance(device, str) or not device:
        raise TypeError(f"{owner}({name}={device!r}) must be a name such as 'auto' or 'cpu'.")
    # The import of torch takes a second. Where torch is missing, the fit has a status.
    if device in ("auto", "cpu") or find_spec("torch") is None:
        return
    from pymc_multimodal.proposals.torch_setup import device_error

    if cause := device_error(device):
        raise ValueError(
            f"{owner}({name}={device!r}) cannot be used by torch: {cause}. Choose 'cpu', or 'auto' "
            "for a GPU where there is one."
        )
