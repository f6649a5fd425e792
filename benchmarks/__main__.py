"""Run all scenarios: `make bench`, or `python -m benchmarks [SCENARIO ...]`."""

import asyncio
import sys
import tempfile
from pathlib import Path

from benchmarks import hand, kit
from benchmarks.data import SCENARIOS, open_database
from benchmarks.measure import compare


async def main(names: list[str]) -> None:
    print(f"{'scenario':<10}{'by hand':>10}{'kit':>10}{'ratio':>8}{'aim':>7}   (medians; µs a request)", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        db = await open_database(Path(folder))
        by_hand, by_kit = hand.make_app(db), kit.make_app(db)
        for scenario in SCENARIOS:
            if not names or scenario.name in names:
                result = await compare(by_hand, by_kit, scenario)
                verdict = "" if result.ratio <= scenario.aim else "   above its aim"
                print(
                    f"{scenario.name:<10}{result.first_us:>10.0f}{result.second_us:>10.0f}"
                    f"{result.ratio:>8.2f}{scenario.aim:>7.2f}{verdict}",
                    flush=True,
                )
        await db.dispose()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
