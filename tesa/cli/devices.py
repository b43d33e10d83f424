"""tesa devices: which devices can measure, and are they sound."""

from argparse import ArgumentParser, ArgumentTypeError, Namespace

from tesa.cli.options import add_target, seconds
from tesa.cli.verb import Outcome, Verb


def address(text: str) -> tuple[str, int]:
    """Read "HOST:PORT"; an IPv6 address stands in brackets.

    >>> address("10.0.0.2:9190")
    ('10.0.0.2', 9190)
    >>> address("[::1]:9190")
    ('::1', 9190)
    """
    from tesa.measure.remote.address import split_address

    try:
        return split_address(text)
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} is not HOST:PORT, as in 10.0.0.2:9190 or [::1]:9190") from error


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--rpc", type=address, required=True, metavar="HOST:PORT", help="where the RPC tracker listens")
    parser.add_argument("--key", metavar="K", help="only the devices with this key")
    parser.add_argument(
        "--timeout", type=seconds, default=10.0, metavar="S", help="seconds that a device has to answer (default: 10)"
    )
    add_target(parser, "its tools link the check (default: those of every architecture that there are tools for)")
    compiler = "C compiler that links the check instead, such as aarch64-linux-gnu-gcc"
    parser.add_argument("--cross-compiler", metavar="COMMAND", help=compiler)


def _run(args: Namespace) -> Outcome:
    from tesa.measure.remote.health import BROKEN, devices
    from tesa.report.devices import devices_data, devices_view
    from tesa.targets.target import parse_target

    host, port = args.rpc
    tools = None if args.target is None else parse_target(args.target).toolchain
    found = devices(host, port, key=args.key, answer_s=args.timeout, compiler=args.cross_compiler, tools=tools)
    broken = [device for device in found if device.state == BROKEN]
    failure = "; ".join(f"device {device.address} ({device.key}) is broken: {device.reason}" for device in broken)
    if not found:
        keyed = "" if args.key is None else f" with key {args.key!r}"
        failure = (
            f"no device{keyed} is registered at the tracker {host}:{port}; on a device: "
            f"python -m tesa.measure.remote.server --tracker {host}:{port} --key {args.key or 'KEY'}"
        )
    return Outcome(devices_data(found), lambda: devices_view(found), failure)


VERB = Verb(
    name="devices",
    help="list the devices of an RPC tracker, and check each that is free",
    examples=(
        ("tesa devices --rpc 10.0.0.2:9190", "all devices; exit code 1 if one is broken, or if there is none"),
        ("tesa devices --rpc 10.0.0.2:9190 --key pi5 --target aarch64", "64-bit ARM boards, by that target's tools"),
        ("tesa devices --rpc 10.0.0.2:9190 --json | jq '.devices[].cpu'", "the same for a program"),
    ),
    arguments=_arguments,
    run=_run,
)
