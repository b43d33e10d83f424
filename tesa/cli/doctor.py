"""tesa doctor: is this installation sound, and what is missing for which target."""

from argparse import Namespace

from tesa.cli.verb import Outcome, Verb


def _run(args: Namespace) -> Outcome:
    from tesa.doctor.checks import examine
    from tesa.report.doctor import diagnosis_view, next_step
    from tesa.report.plain import plain

    diagnosis = examine()
    failed = [f"{check.group}: {check.name}: {check.found}; {check.hint}" for check in diagnosis.failures]
    data = {"ok": not failed, "next": next_step(diagnosis), **plain(diagnosis)}
    return Outcome(data, lambda: diagnosis_view(diagnosis), failed[0] if failed else "")


VERB = Verb(
    name="doctor",
    help="check the installation, and show what is missing for which target",
    examples=(
        ("tesa doctor", "versions, a self-test of TVM, CPU, tools, targets; exit code 1 if tesa cannot work"),
        ("tesa doctor --json | jq .cpu.features", "the same for a program"),
    ),
    arguments=lambda parser: None,
    run=_run,
)
