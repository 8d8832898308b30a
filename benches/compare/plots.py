"""Pictures of a comparison, as SVG: run by a Python that has matplotlib.

    plots.py RESULTS.json FOLDER
"""

import sys
from pathlib import Path

import matplotlib
from matplotlib import pyplot
from matplotlib.ticker import FuncFormatter, NullLocator

import families
import plotted
from results import from_json

#: Okabe and Ito's colours, which the colour-blind tell apart; markers for those who see none.
COLOURS = {"direct": "#999999", "haproxy": "#E69F00", "pgbouncer": "#56B4E9", "pgweir": "#D55E00",
           "before": "#CC79A7"}
SECOND = "#0072B2"
MARKERS = {"direct": "s", "haproxy": "^", "pgbouncer": "D", "pgweir": "o", "before": "v"}
STYLE = {"svg.fonttype": "none", "svg.hashsalt": "pgweir", "font.family": "sans-serif",
         "font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
         "axes.axisbelow": True, "grid.color": "#DDDDDD", "grid.linewidth": 0.6,
         "legend.frameon": False, "figure.constrained_layout.use": True}


def main(results_file, folder):
    """Draws what there are figures for; returns the names of the files."""
    matplotlib.use("svg")
    matplotlib.rcParams.update(STYLE)
    text = Path(results_file).read_text()
    results = from_json(text, families.families(memory_clients=0, idle_clients=0))
    Path(folder).mkdir(parents=True, exist_ok=True)
    drawn = []
    for name, draw in PLOTS.items():
        figure = draw(results)
        if figure is not None:
            # Without a date: the same figures give the same file.
            figure.savefig(Path(folder) / f"{name}.svg", metadata={"Date": None, "Creator": None})
            pyplot.close(figure)
            drawn.append(f"{name}.svg")
    return drawn


def cpu(results):
    """Bars of CPU per transaction: a panel for what is of one size."""
    panels = [([key for key in keys if _has(results, key, "cpu_us")], unit, divisor)
              for keys, unit, divisor in plotted.CPU_PANELS]
    panels = [panel for panel in panels if panel[0]]
    if not panels:
        return None
    figure, axes = pyplot.subplots(1, len(panels), figsize=(12, 3.8), squeeze=False,
                                   width_ratios=[len(keys) + 0.4 for keys, _unit, _divisor in panels])
    for axis, (keys, unit, divisor) in zip(axes[0], panels):
        _bars(axis, results, keys, [plotted.SHORT[key] for key in keys],
              lambda key, name, divisor=divisor: _scaled(results, key, name, "cpu_us", divisor))
        axis.set_ylabel(f"CPU per transaction ({unit})")
    _legend(figure, axes[0][0])
    return figure


def latency(results):
    """Latency against the rate that was asked for, a row for each server behind."""
    keys = {server: [plotted.RATE.format(server, share) for share in plotted.SHARES]
            for server in plotted.SERVERS}
    keys = {server: row for server, row in keys.items()
            if any(_has(results, key, "p50_us") for key in row)}
    if not keys:
        return None
    figure, axes = pyplot.subplots(len(keys), len(plotted.LATENCIES), figsize=(11, 3.2 * len(keys)),
                                   sharex=True, sharey="row", squeeze=False)
    for server, row in zip(keys, axes):
        for axis, (name, title) in zip(row, plotted.LATENCIES.items()):
            _lines(axis, results, plotted.SHARES, keys[server],
                   lambda key, target, name=name: _scaled(results, key, target, name, 1000))
            axis.set_title(f"{title}, {plotted.SERVERS[server]}", fontsize=10)
            axis.set_yscale("log")
            _plain_numbers(axis.yaxis)
            axis.set_xticks(plotted.SHARES)
        row[0].set_ylabel("latency (ms)")
    for axis in axes[-1]:
        axis.set_xlabel("rate (% of haproxy's in a closed loop)")
    _legend(figure, axes[0][0])
    return figure


def growth(results):
    """Cost against the number of something, as a ratio to the fewest of it."""
    series = {title: (sizes, [key.format(size) for size in sizes])
              for title, (sizes, key) in plotted.GROWTH.items()}
    series = {title: found for title, found in series.items() if _has(results, found[1][0], "cpu_us")}
    if not series:
        return None
    figure, axes = pyplot.subplots(1, len(series), figsize=(11, 3.4), sharey=True, squeeze=False)
    for axis, (title, (sizes, keys)) in zip(axes[0], series.items()):
        _lines(axis, results, sizes, keys,
               lambda key, name, first=keys[0]: results.ratio((key, name), (first, name), "cpu_us"))
        axis.set_xlabel(title)
        axis.set_xscale("log")
        _plain_numbers(axis.xaxis)
        axis.set_xticks(sizes)
        axis.tick_params(axis="x", labelrotation=45 if sizes[-1] > 1000 else 0)
    axes[0][0].set_ylim(bottom=0)
    axes[0][0].set_ylabel("CPU per transaction\n(ratio to the fewest)")
    _legend(figure, axes[0][0])
    return figure


def memory(results):
    """Resident memory per client."""
    if not _has(results, "memory", "idle_kb"):
        return None
    figure, axis = pyplot.subplots(figsize=(6, 3.4))
    _bars(axis, results, list(plotted.MEMORY), list(plotted.MEMORY.values()),
          lambda name, target: results.figure("memory", target, name))
    axis.set_ylabel("resident memory per client (KB)")
    _legend(figure, axis)
    return figure


PLOTS = {"cpu": cpu, "latency": latency, "growth": growth, "memory": memory}


def _has(results, key, name):
    return any(results.figure(key, target, name) is not None for target in results.versions)


def _scaled(results, key, target, name, divisor):
    value = results.figure(key, target, name)
    return None if value is None else value / divisor


def _bars(axis, results, keys, labels, value):
    """Groups of bars with their figures above, one for each target that has any."""
    names = [name for name in results.versions if any(value(key, name) is not None for key in keys)]
    width = 0.84 / len(names)
    for number, name in enumerate(names):
        places = [(at + (number - (len(names) - 1) / 2) * width, value(key, name))
                  for at, key in enumerate(keys) if value(key, name) is not None]
        bars = axis.bar(*zip(*places), width=width * 0.92, label=name, color=_colour(name))
        axis.bar_label(bars, fmt=lambda height: f"{height:.0f}" if height >= 100 else f"{height:.1f}",
                       fontsize=6.5, padding=1)
    axis.set_xticks(range(len(keys)), labels, fontsize=8)
    axis.tick_params(axis="x", length=0)
    axis.grid(axis="x", visible=False)


def _lines(axis, results, sizes, keys, value):
    """A line for each target that has figures."""
    for name in results.versions:
        points = [(size, value(key, name)) for size, key in zip(sizes, keys) if value(key, name) is not None]
        if points:
            axis.plot(*zip(*points), label=name, color=_colour(name), marker=MARKERS[_kind(name)],
                      markersize=5, linewidth=1.5)


def _plain_numbers(axis):
    """On a logarithmic scale, numbers in place of powers of ten."""
    axis.set_major_formatter(FuncFormatter(lambda value, _place: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


def _kind(name):
    return name.partition("-")[0]


def _colour(name):
    """The kind's; pgweir's second column has one of its own."""
    return SECOND if _kind(name) == "pgweir" and name != "pgweir-1" else COLOURS[_kind(name)]


def _legend(figure, axis):
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))


if __name__ == "__main__":
    for drawn in main(*sys.argv[1:]):
        print(drawn)
