"""Run all benchmarks: `make bench`, or `python -m benchmarks [SCENARIO | tokens | logins ...]`."""

import asyncio
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks import hand, kit, logins, tokens
from benchmarks.data import SCENARIOS, Scenario, open_database
from benchmarks.measure import compare


async def run_scenarios(scenarios: Sequence[Scenario]) -> None:
    print(f"{'scenario':<14}{'by hand':>10}{'kit':>10}{'ratio':>8}{'aim':>7}   (medians; µs a request)", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        db = await open_database(Path(folder))
        by_hand, by_kit = hand.make_app(db), kit.make_app(db)
        for scenario in scenarios:
            result = await compare(by_hand, by_kit, scenario)
            _print_row(scenario.name, result.first_us, result.second_us, result.ratio, scenario.aim)
        await db.dispose()


def run_tokens() -> None:
    print(f"\n{'token':<14}{'PyJWT':>10}{'kit':>10}{'ratio':>8}{'aim':>7}   (medians; µs a verification)", flush=True)
    for row in tokens.measure():
        _print_row(row.name, row.pyjwt_us, row.kit_us, row.ratio, row.aim)


def run_logins() -> None:
    print(f"\n{'40 log-ins':<14}{'MiB':>10}{'stall, ms':>10}{'s':>8}   (memory above idle; the loop's longest pause)")
    for side in ("hand", "kit"):
        result = logins.measure(side)
        print(f"{side:<14}{result.memory_mib:>10.0f}{result.stall_ms:>10.0f}{result.seconds:>8.1f}", flush=True)


def _print_row(name: str, first_us: float, second_us: float, ratio: float, aim: float | None) -> None:
    wanted = "" if aim is None else f"{aim:.2f}"
    verdict = "" if aim is None or ratio <= aim else "   above its aim"
    print(f"{name:<14}{first_us:>10.1f}{second_us:>10.1f}{ratio:>8.2f}{wanted:>7}{verdict}", flush=True)


if __name__ == "__main__":
    names = sys.argv[1:]
    if chosen := [scenario for scenario in SCENARIOS if not names or scenario.name in names]:
        asyncio.run(run_scenarios(chosen))
    if not names or "tokens" in names:
        run_tokens()
    if not names or "logins" in names:
        run_logins()
