"""The diagram of the seminar's model."""

from matplotlib.patches import FancyBboxPatch

from vae.language import _
from vae.pictures import figure_with_alt

__all__ = ["plot_model"]


def plot_model():
    """Draw a diagram of the seminar's model, with arrows that show how data flow through it.

    Returns
    -------
    matplotlib.figure.Figure
    """
    alt = _("Схема модели: изображение x — кодировщик — μ и σ — код z = μ + σ ⊙ ε, шум ε берётся "
            "извне — декодировщик — логиты l — распределение p(x | z)")
    figure, ax = figure_with_alt(alt, figsize=(9.4, 2.3))
    ax.set(xlim=(0, 20), ylim=(0, 4.8))
    ax.axis("off")
    network, variable = "#dbe7f6", "white"
    boxes = [(0.9, 2.4, 1.5, variable, "$x$", _("изображение")),
             (4.0, 2.4, 3.0, network, _("кодировщик"), _(r"веса $\phi$")),
             (7.6, 3.4, 1.5, variable, r"$\mu(x)$", ""),
             (7.6, 1.4, 1.5, variable, r"$\sigma(x)$", ""),
             (11.0, 2.4, 2.7, variable, r"$z=\mu+\sigma\odot\varepsilon$", _("код")),
             (14.9, 2.4, 3.0, network, _("декодировщик"), _(r"веса $\theta$")),
             (18.8, 2.4, 1.5, variable, "$l(z)$", _("логиты пикселей"))]
    for x, y, width, color, text, note in boxes:
        ax.add_patch(FancyBboxPatch((x - width / 2, y - 0.5), width, 1, boxstyle="round,pad=0.05",
                                    facecolor=color, edgecolor="0.35"))
        ax.text(x, y, text, ha="center", va="center", fontsize=11.5)
        ax.text(x, y - 0.72, note, ha="center", va="top", fontsize=10, color="0.35")
    ax.text(11.0, 4.5, r"$\varepsilon\sim\mathcal{N}(0, I)$", ha="center", va="center",
            fontsize=11.5)
    arrows = [((1.7, 2.4), (2.4, 2.4)), ((5.6, 2.6), (6.8, 3.3)), ((5.6, 2.2), (6.8, 1.5)),
              ((8.4, 3.3), (9.6, 2.7)), ((8.4, 1.5), (9.6, 2.1)), ((11.0, 4.1), (11.0, 3.0)),
              ((12.5, 2.4), (13.3, 2.4)), ((16.5, 2.4), (17.9, 2.4))]
    for start, end in arrows:
        ax.annotate("", end, start, arrowprops=dict(arrowstyle="->", color="0.35"))
    return figure
