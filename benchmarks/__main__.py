"""Run all benchmarks: `make bench`, or `python -m benchmarks [SCENARIO | pages | limits ...]`."""

import asyncio
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from benchmarks import (
    cancellations,
    cursors,
    hand,
    kit,
    limit_floods,
    limit_outages,
    limits,
    logins,
    middleware,
    network,
    pages,
    parameters,
    sessions,
    tokens,
)
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


async def run_parameters() -> None:
    print(f"\n{'parameters':<14}{'by hand':>10}{'kit':>10}{'ratio':>8}{'aim':>7}   (medians; µs a request)", flush=True)
    async for row in parameters.measure():
        _print_row(row.name, row.hand_us, row.kit_us, row.ratio, row.aim)


def run_cursors() -> None:
    print(f"\n{'cursor':<16}{'by hand':>10}{'kit':>10}{'ratio':>8}{'aim, µs':>9}   (medians; µs a cursor)", flush=True)
    for row in cursors.measure():
        wanted = "" if row.aim_us is None else f"{row.aim_us:.0f}"
        verdict = "" if row.aim_us is None or row.kit_us <= row.aim_us else "   above its aim"
        print(f"{row.name:<16}{row.hand_us:>10.1f}{row.kit_us:>10.1f}{row.ratio:>8.2f}{wanted:>9}{verdict}", flush=True)


async def run_pages() -> None:
    print(f"\n{'page':<24}{'by hand':>10}{'kit':>10}{'ratio':>8}{'aim':>7}   (medians; µs a request)", flush=True)
    async for row in pages.measure():
        _print_row(row.name, row.hand_us, row.kit_us, row.ratio, row.aim, width=24)
    print("* by hand on the kit's engine")
    print(f"\n{'row 900,000':<30}{'page 1':>9}{'cursor':>9}{'OFFSET':>9}{'ratio':>8}{'aim':>7}   (medians; ms a page)")
    async for depth in pages.measure_depth():
        aim = "" if depth.aim is None else f"{depth.aim:.2f}"
        verdict = "" if depth.aim is None or depth.ratio <= depth.aim else "   above its aim"
        print(
            f"{depth.name:<30}{depth.first_ms:>9.2f}{depth.deep_ms:>9.2f}{depth.offset_ms:>9.1f}{depth.ratio:>8.2f}"
            f"{aim:>7}{verdict}",
            flush=True,
        )


async def run_sessions() -> None:
    print(f"\n{'session':<24}{'by hand':>10}{'kit':>10}{'ratio':>8}{'aim':>7}   (medians; µs a request)", flush=True)
    async for row in sessions.measure():
        _print_row(row.name, row.hand_us, row.kit_us, row.ratio, row.aim, width=24)
    print("* by hand on the kit's engine")
    if not sessions.postgres_answers():
        print("PostgreSQL was left out: no server answers; KIT_TEST_POSTGRES_URL names one")
        return
    print(f"\n{'round trips':<24}{'by hand':>10}{'kit':>10}   (a request, on a connection of the pool)", flush=True)
    async for name, hand_trips, kit_trips in sessions.count_round_trips():
        print(f"{name:<24}{hand_trips:>10.2f}{kit_trips:>10.2f}", flush=True)


async def run_cancellations() -> bool:
    """Return whether all was well."""
    print(
        f"\n{'cancellations':<24}{'requests':>10}{'cancelled':>10}{'200':>7}{'201':>7}{'503':>7}{'idle':>6}{'s':>7}",
        flush=True,
    )
    is_well = True
    async for report in cancellations.run():
        answers = report.statuses
        requests = report.cancelled + answers.total()
        print(
            f"{report.name:<24}{requests:>10}{report.cancelled:>10}{answers[200]:>7}{answers[201]:>7}{answers[503]:>7}"
            f"{report.idle:>6}{report.seconds:>7.1f}",
            flush=True,
        )
        for violation in report.violations:
            is_well = False
            print(f"    {violation}", flush=True)
    return is_well


async def run_middleware(nowhere: TextIO) -> None:
    print(
        f"\n{'layers and errors':<24}{'bare':>10}{'kit':>10}{'ratio':>8}{'aim':>7}   (medians; µs a request)",
        flush=True,
    )
    for row in [*[row async for row in middleware.measure(nowhere)], middleware.measure_served()]:
        wanted = "" if row.aim is None else f"{row.aim:.2f}"
        added = f"   +{row.kit_us - row.bare_us:.0f} of {middleware.AIM_US:.0f}" if row.is_added_bounded else ""
        verdict = "   above its aim" if row.is_above else ""
        print(
            f"{row.name:<24}{row.bare_us:>10.1f}{row.kit_us:>10.1f}{row.ratio:>8.2f}{wanted:>7}{added}{verdict}",
            flush=True,
        )


async def run_limits() -> None:
    width = 34
    print(f"\n{'limit in memory':<{width}}{'by hand':>10}{'kit':>10}{'ratio':>8}{'aim':>7}   (medians; µs a request)")
    async for row in limits.measure_memory():
        _print_row(row.name, row.hand_us, row.kit_us, row.ratio, row.aim, width=width)
    _run_floods()
    if not network.redis_answers():
        print("Limits in Redis were left out: no server answers; KIT_TEST_REDIS_URL names one")
        return
    print(
        f"\n{'limit in Redis':<26}{'slowapi':>9}{'by hand':>9}{'kit':>9}{'ratio':>8}{'aim':>7}"
        f"{'slowapi':>11}{'by hand':>9}{'kit':>9}   (medians; µs a request, then those of CPU; ratio: kit to slowapi)",
        flush=True,
    )
    async for hit in limits.measure_redis():
        wall, cpu = ("".join(f"{us:>9.0f}" for us in side) for side in (hit.wall_us, hit.cpu_us))
        verdict = "" if hit.ratio <= hit.aim else "   above its aim"
        print(f"{hit.name:<26}{wall}{hit.ratio:>8.2f}{hit.aim:>7.2f}  {cpu}{verdict}", flush=True)
    trips = "".join(f"{trips:>9.2f}" for trips in await limits.count_round_trips())
    print(f"{'round trips a request':<26}{trips}", flush=True)
    await _run_limit_outages()


def _run_floods() -> None:
    print(
        f"\n{'a million keys':<42}{'bytes/key':>10}{'held':>11}{'flood':>8}{'CPU':>7}{'expired':>9}{'CPU':>7}{'gc':>7}"
        f"{'aim':>5}   (longest step, ms)",
        flush=True,
    )
    for row in limit_floods.measure_floods():
        is_above = row.name.startswith("kit") and max(row.flood_ms, row.expired_ms) > limit_floods.AIM_MS
        print(
            f"{row.name:<42}{row.bytes_per_key:>10.0f}{row.held:>11,}{row.flood_ms:>8.1f}{row.flood_cpu_ms:>7.1f}"
            f"{row.expired_ms:>9.1f}{row.expired_cpu_ms:>7.1f}{row.gc_ms:>7.1f}{limit_floods.AIM_MS:>5.0f}"
            f"{'   above its aim' if is_above else ''}",
            flush=True,
        )


async def _run_limit_outages() -> None:
    print(f"\n{'Redis 50 ms away':<26}{'near':>10}{'away':>10}{'ratio':>8}{'aim':>7}   (p99 of a free endpoint, ms)")
    async for far in limit_outages.measure_far():
        aim = limit_outages.FAR_AIM if far.name.startswith("kit") else None
        _print_row(far.name, far.near_ms, far.far_ms, far.ratio, aim, width=26)
    print(f"\n{'Redis hung':<14}{'requests':>10}{'slowest':>10}{'aim':>7}{'pause':>10}{'aim':>7}   (ms)", flush=True)
    async for hung in limit_outages.measure_hung():
        aims = limit_outages.HUNG_AIM_MS, limit_outages.GAP_AIM_MS
        is_above = hung.name == "kit" and (hung.slowest_ms > aims[0] or hung.gap_ms > aims[1])
        print(
            f"{hung.name:<14}{hung.requests:>10}{hung.slowest_ms:>10.0f}{aims[0]:>7.0f}{hung.gap_ms:>10.1f}{aims[1]:>7.0f}"
            f"{'   above its aim' if is_above else ''}",
            flush=True,
        )


def run_logins() -> None:
    print(f"\n{'40 log-ins':<14}{'MiB':>10}{'stall, ms':>10}{'s':>8}   (memory above idle; the loop's longest pause)")
    for side in ("hand", "kit"):
        result = logins.measure(side)
        print(f"{side:<14}{result.memory_mib:>10.0f}{result.stall_ms:>10.0f}{result.seconds:>8.1f}", flush=True)


def _print_row(
    name: str, first_us: float, second_us: float, ratio: float, aim: float | None, *, width: int = 14
) -> None:
    wanted = "" if aim is None else f"{aim:.2f}"
    verdict = "" if aim is None or ratio <= aim else "   above its aim"
    print(f"{name:<{width}}{first_us:>10.1f}{second_us:>10.1f}{ratio:>8.2f}{wanted:>7}{verdict}", flush=True)


if __name__ == "__main__":
    names = sys.argv[1:]
    if chosen := [scenario for scenario in SCENARIOS if not names or scenario.name in names]:
        asyncio.run(run_scenarios(chosen))
    if not names or "middleware" in names:
        with Path(os.devnull).open("w") as nowhere:
            asyncio.run(run_middleware(nowhere))
    if not names or "sessions" in names:
        asyncio.run(run_sessions())
    if not names or "parameters" in names:
        asyncio.run(run_parameters())
    if not names or "cursors" in names:
        run_cursors()
    if not names or "pages" in names:
        asyncio.run(run_pages())
    if not names or "tokens" in names:
        run_tokens()
    if not names or "limits" in names:
        asyncio.run(run_limits())
    if not names or "logins" in names:
        run_logins()
    if (not names or "cancellations" in names) and not asyncio.run(run_cancellations()):
        sys.exit(1)
