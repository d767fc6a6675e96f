"""Writes what was measured as tables and plots: only ratios, since a time says nothing about another machine."""

from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape

from benchmarks.results import OWN, Results
from benchmarks.workload import BEST, ITSELF, Bar, Workload

BEGIN, END = "<!-- results -->", "<!-- /results -->"
COLUMNS = {"throughput": "Throughput", "cpu": "CPU", "p50": "p50", "p99": "p99", "peak": "Peak memory"}
COLOURS = {OWN: "#2563a8", "distribution": "#c9782b", "zot": "#4f8a5b"}
LONGEST = 2.0
"""Where the bar of a ratio ends at the latest; its number is written in full."""

MISSING = "-"


def shown(ratio: float | None) -> str:
    """Returns a ratio with two digits that count, or more."""
    if ratio is None:
        return MISSING
    return f"{ratio:.2g}" if ratio < 0.1 else f"{ratio:.2f}" if ratio < 10 else f"{ratio:,.0f}"


def found(results: Results, case: str, bar: Bar) -> float | None:
    """Returns the ratio that a bar limits, against all peers that of the best one; None where it was not measured."""
    if bar.against == ITSELF:
        if bar.beside:
            return results.ratio(bar.measure, case, OWN, bar.beside)
        rounds = results.figures(case, OWN, bar.measure)
        return sorted(rounds)[len(rounds) // 2] if rounds else None
    peers = results.peers() if bar.against == BEST else [bar.against]
    ratios = [ratio for peer in peers if (ratio := results.ratio(bar.measure, case, peer)) is not None]
    if not ratios:
        return None
    return min(ratios) if bar.at_least else max(ratios)


def ratios_table(results: Results, cases: Sequence[str]) -> list[str]:
    """Returns the lines of the table of all ratios."""
    lines = [f"| Workload | Peer | {' | '.join(COLUMNS.values())} |", "|---|---|" + "---|" * len(COLUMNS)]
    for case in cases:
        for peer in results.peers():
            cells = [shown(results.ratio(measure, case, peer)) for measure in COLUMNS]
            if any(cell != MISSING for cell in cells):
                lines.append(f"| {case} | {peer} | {' | '.join(cells)} |")
    return lines


def bars_table(results: Results, workloads: Sequence[Workload]) -> list[str]:
    """Returns the lines of the table of all bars."""
    lines = ["| Workload | Measure | Against | Bar | Measured | |", "|---|---|---|---|---|---|"]
    for workload in workloads:
        for case, bars in workload.bars.items():
            for bar in bars:
                ratio = found(results, case, bar)
                verdict = "not measured" if ratio is None else "met" if bar.met(ratio) else "**not met**"
                against = {BEST: "the best peer", ITSELF: bar.beside or ITSELF}.get(bar.against, bar.against)
                limit = f"{'>=' if bar.at_least else '<='} {bar.limit:g}"
                lines.append(f"| {case} | {bar.measure} | {against} | {limit} | {shown(ratio)} | {verdict} |")
    return lines


def plot(title: str, groups: dict[str, dict[str, float]]) -> str:
    """Returns an SVG of horizontal bars, a group for each case and in it a bar for each server."""
    left, bar, gap, top, width = 350, 16, 14, 56, 900
    unit = (width - left - 130) / LONGEST
    y, parts = top, [f'<text x="16" y="30" font-size="18" font-weight="bold">{escape(title)}</text>']
    for group, servers in groups.items():
        middle = y + bar * len(servers) / 2 + 4
        parts.append(f'<text x="{left - 12}" y="{middle:.0f}" text-anchor="end">{escape(group)}</text>')
        for server, value in servers.items():
            length = min(value, LONGEST) * unit
            colour = COLOURS.get(server, "#777")
            parts += [
                f'<rect x="{left}" y="{y}" width="{length:.1f}" height="{bar - 2}" fill="{colour}"/>',
                f'<text x="{left + length + 6:.1f}" y="{y + 11}" font-size="11">{server} {shown(value)}</text>',
            ]
            y += bar
        y += gap
    line = f'<line x1="{left + unit:.1f}" y1="{top - 8}" x2="{left + unit:.1f}" y2="{y - gap}" stroke="#ddd"/>'
    style = f'font-family="sans-serif" font-size="13" viewBox="0 0 {width} {y}" width="{width}" height="{y}"'
    background = f'<rect width="{width}" height="{y}" fill="#fff"/>'
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" {style}>', background, line, *parts, "</svg>", ""])


def plots(results: Results, workloads: Sequence[Workload]) -> dict[str, str]:
    """Returns the plots by family: each measure relative to Drift's."""
    drawn: dict[str, str] = {}
    for family in dict.fromkeys(workload.family for workload in workloads):
        measures = {workload.name: workload.headline for workload in workloads if workload.family == family}
        groups: dict[str, dict[str, float]] = {}
        for case, workload in results.cases().items():
            if measure := measures.get(workload):
                ratios = {peer: results.ratio(measure, case, peer) for peer in results.peers()}
                others = {peer: 1 / ratio for peer, ratio in ratios.items() if ratio}
                if others:
                    groups[case] = {OWN: 1.0, **others}
        if groups:
            better = {"throughput": "throughput, longer is better", "peak": "peak memory, shorter is better"}
            title = f"{family.capitalize()}: {better[next(iter(measures.values()))]} (Drift = 1)"
            drawn[family] = plot(title, groups)
    return drawn


def write_report(page: Path, results: Results, workloads: Sequence[Workload]) -> None:
    """Replaces what stands between the markers of a page, or adds it at the end, and writes the plots beside it."""
    notes = [f"- {row.workload}, {row.server}: {row.note.splitlines()[0][:200]}" for row in results.rows if row.note]
    drawn = plots(results, workloads)
    (page.parent / "plots").mkdir(exist_ok=True)
    for family, svg in drawn.items():
        (page.parent / "plots" / f"{family}.svg").write_text(svg)
    sections = [
        "### Bars",
        "\n".join(bars_table(results, workloads)),
        "### Ratios, Drift to peer",
        "\n".join(ratios_table(results, list(results.cases()))),
        *(["Not measured:", "\n".join(notes)] if notes else []),
        "\n".join(f"![{family}](plots/{family}.svg)" for family in drawn),
    ]
    text = page.read_text() if page.exists() else ""
    before, begun, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    separator = "" if begun or not text else "\n"
    page.write_text(f"{before}{separator}{BEGIN}\n\n" + "\n\n".join(sections) + f"\n\n{END}{after or chr(10)}")
