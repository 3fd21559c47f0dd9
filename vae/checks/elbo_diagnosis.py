"""Which mistake explains a wrong bound.

`diagnose` tries the functions of `_DIAGNOSES` in order. Each takes the draws of a bound and returns
a hint, or None if the bound does not have this mistake.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from vae.checks.closed_forms import normal_log_prob
from vae.checks.elbo_draws import DRAWS_PER_ENCODER, N_ENCODERS, SMALL_KL
from vae.checks.latent_code import both_orders
from vae.language import N_, _

N_PIXELS = 28 * 28


def diagnose(draws):
    """Return what is wrong with a bound that equals none of ``draws.estimates``.

    Parameters
    ----------
    draws : vae.checks.elbo_draws.Draws

    Returns
    -------
    str or None
        A hint in the reader's language. None for an unbiased estimate whose samples are drawn
        inside a loop: they cannot be seen, so the bound may be right.
    """
    for diagnosis in _DIAGNOSES:
        hint = diagnosis(draws)
        if hint is not None:
            return hint
    return None


def _bounded_kl(draws):
    for terms in draws.estimates:
        wrong = np.abs(draws.elbo - sum(terms)) >= draws.rounding
        if wrong[SMALL_KL].any() and not wrong[:SMALL_KL.start].any():
            return _("elbo верна, пока KL-дивергенция велика, но не когда она мала: ограничивать "
                     "её снизу (T.maximum, T.clip, free bits) не нужно.")
    return None


def _importance_weighted_bound(draws):
    if draws.n_samples > 1 and any(
            draws.elbo_equals(bound) for bound in _importance_weighted_bounds(draws)):
        return _("это IWAE: логарифм среднего по сэмплам. Здесь нужно среднее логарифмов.")
    return None


def _importance_weighted_bounds(draws):
    """The bound of Burda, Grosse and Salakhutdinov (2016), eq. 8, for either order of samples."""
    n_draws, batch_size, _dim = draws.loc.shape
    k, code = draws.n_samples, draws.code
    log_prior = normal_log_prob(code, 0., np.ones_like(code))
    locs, scales = (both_orders(values, code.shape[1], axis=1)
                    for values in (draws.loc, draws.scale))
    shapes_and_sample_axes = [((n_draws, batch_size, k), 2), ((n_draws, k, batch_size), 1)]
    for order, (shape, sample_axis) in enumerate(shapes_and_sample_axes):
        log_weights = (draws.log_px_z[:, order] + log_prior
                       - normal_log_prob(code, locs[order], scales[order]))
        log_means = logsumexp(log_weights.reshape(shape), axis=sample_axis) - np.log(k)
        yield np.mean(log_means, axis=1)


def _reverse_kl(draws):
    loc, scale = draws.loc, draws.scale
    kl = np.mean(0.5 * np.sum((1 + loc ** 2) / scale ** 2 - 1 + 2 * np.log(scale), axis=2), axis=1)
    tolerance = draws.rounding + 1e-4 * np.abs(kl)
    if any((np.abs(draws.elbo - (log_px_z - kl)) < tolerance).all()
           for log_px_z, _prior, _entropy in draws.estimates):
        return _("KL-дивергенция взята в обратную сторону: KL(p || q), а нужна KL(q || p).")
    return None


def _separate_samples(draws):
    if _is_unbiased(draws) and not draws.samples_in_a_loop:
        return _("все слагаемые elbo нужно вычислять при одном и том же z: том, что подан на вход "
                 "декодировщика. Не вызван ли qz_x.sample() второй раз? (Такая оценка тоже не "
                 "смещена, но её дисперсия, как правило, больше.)")
    return None


def _another_mistake(draws):
    if _is_unbiased(draws):
        return None
    log_px_z, kl = draws.own_log_px_z[0], draws.kl[0]
    return _("при случайных весах сетей elbo = {elbo:.2f}, а должна быть около {expected:.2f}: "
             "log p(x | z) = {log_px_z:.2f}, KL-дивергенция = {kl:.2f}. Проверьте оба слагаемых: "
             "по пикселям и координатам кода — суммы, по батчу — среднее.",
             elbo=draws.elbo[0], expected=log_px_z - kl, log_px_z=log_px_z, kl=kl)


def _is_unbiased(draws):
    """Whether elbo has the right mean, both with the model's decoder and with a constant one."""
    error = draws.elbo - (draws.own_log_px_z - draws.kl)
    # The constant decoder's logits are 0, so log p(x | z) = N_PIXELS * log 0.5.
    error_of_constant = draws.elbo_of_constant_decoder - N_PIXELS * np.log(0.5) + draws.kl
    return _has_zero_mean(error) and _has_zero_mean(error_of_constant)


def _has_zero_mean(error):
    """Whether the mean of the errors is 0 for each encoder, and for all of them together."""
    error = error.reshape(N_ENCODERS, DRAWS_PER_ENCODER)
    means = error.mean(axis=1)
    spread = error.std(axis=1, ddof=1) + 1e-4 * np.abs(error).max() + 1e-3
    return ((np.abs(means) < 8 * spread / np.sqrt(DRAWS_PER_ENCODER)).all()
            and abs(np.mean(means / spread)) < 5 / np.sqrt(error.size))


# --- wrong coefficients ---

@dataclass(frozen=True)
class _Coefficients:
    """The model of a wrong bound: the right terms, each with a coefficient, and a constant.

    ``elbo ≈ a · E log p(x | z) + b · E log p(z) + c · H[q(z | x)] + d``, in nats, where H is the
    entropy. The right bound has a = b = c = 1 and d = 0; -KL(q || p) is the second term plus the
    third.
    """

    a: float
    b: float
    c: float
    d: float


def _wrong_coefficients(draws):
    """Fit the coefficients to the draws, once for each estimate of the terms; explain them."""
    for terms in draws.estimates:
        matrix = np.column_stack([*terms, np.ones(len(draws.elbo))])
        scaling = np.abs(matrix).max(axis=0)
        fitted = np.linalg.lstsq(matrix / scaling, draws.elbo, rcond=1e-9)[0] / scaling
        tolerance = draws.rounding * max(1, *np.abs(fitted[:3]))
        if (np.abs(matrix @ fitted - draws.elbo) < tolerance).all():
            hint = _explain_coefficients(_Coefficients(*fitted), draws)
            if hint is not None:
                return hint
    return None


def _explain_coefficients(fit, draws):
    """Return the hint of the first row of `_PATTERNS` that the coefficients match, or None."""
    for matches, hint in _PATTERNS:
        if matches(fit):
            return hint(fit, draws)
    return None


def _about(value, expected, tolerance=0.003):
    """Whether a fitted coefficient is as expected, up to the errors of the fit."""
    return abs(value - expected) < tolerance * max(abs(expected), 1e-4)


def _zero(value):
    return abs(value) < 1e-3


def _all_equal(fit):
    return not _zero(fit.a) and _about(fit.b, fit.a) and _about(fit.c, fit.a)


def _constant_added(fit, draws):
    return _("elbo отличается от нужной на постоянную {constant:.1f}.", constant=fit.d)


def _multiplied(fit, draws):
    return _("elbo умножена на {factor:.3g}, а должна быть средней по батчу{guess}.",
             factor=fit.a, guess=_guess_reduction(abs(fit.a), draws))


def _weighted(fit, draws):
    factors = [("log p(x | z)", fit.a), (_("KL-дивергенции"), fit.b)]
    wrong_factors = ([(term, factor) for term, factor in factors if not _about(factor, 1)]
                     or [max(factors, key=lambda pair: abs(pair[1] - 1))])
    return "; ".join(
        _("множитель при {term} — {factor:.4g}, а должен быть 1{guess}",
          term=term, factor=factor, guess=_guess_reduction(factor, draws))
        for term, factor in wrong_factors) + "."


def _guess_reduction(factor, draws):
    """Name the superfluous sum or mean that explains this factor of a term; "" if none does."""
    for size, dimension in _sizes(draws):
        if size > 1 and _about(factor, size, 0.02):
            return _(" (похоже, лишняя сумма по {dimension})", dimension=dimension)
        if size > 1 and _about(factor, 1 / size, 0.02):
            return _(" (похоже, лишнее среднее по {dimension})", dimension=dimension)
    return ""


def _sizes(draws):
    """The sizes over which a term may have been summed or averaged, with their names."""
    _n_draws, batch_size, hidden_dim = draws.loc.shape
    return [(batch_size, _("батчу")), (hidden_dim, _("координатам кода")),
            (N_PIXELS, _("пикселям")), (draws.n_samples, _("сэмплам")),
            (batch_size * draws.n_samples, _("батчу и сэмплам")),
            (batch_size * hidden_dim, _("батчу и координатам кода")),
            (batch_size * N_PIXELS, _("батчу и пикселям"))]


def _text(hint):
    """A hint without placeholders, as `_PATTERNS` has them."""
    return lambda fit, draws: _(hint)


#: Patterns of the coefficients, each with its hint: functions ``fit -> bool`` and
#: ``(fit, draws) -> str or None``. Only the hint of the first pattern that matches is used.
_PATTERNS = [
    # a = b = c
    (lambda fit: _all_equal(fit) and _about(fit.a, 1) and abs(fit.d) >= 0.05,
     _constant_added),
    (lambda fit: _all_equal(fit) and _about(fit.a, -1),
     _text(N_("у elbo неверный знак: её максимизируют, и при обучении она растёт примерно от -180 "
              "до -150 и выше."))),
    (lambda fit: _all_equal(fit) and not _about(fit.a, 1), _multiplied),
    # one of them is 0
    (lambda fit: _zero(fit.a) and _zero(fit.b) and _zero(fit.c), lambda fit, draws: None),
    (lambda fit: _zero(fit.a), _text(N_("нет слагаемого log p(x | z)."))),
    (lambda fit: _zero(fit.b) and _zero(fit.c),
     _text(N_("нет KL-дивергенции: log p(z) и log q(z | x) тоже входят в elbo."))),
    (lambda fit: _zero(fit.c), _text(N_("нет слагаемого -log q(z | x)."))),
    (lambda fit: _zero(fit.b), _text(N_("нет слагаемого log p(z)."))),
    # b = c, so the KL divergence is there, with another coefficient than log p(x | z)
    (lambda fit: _about(fit.b, fit.c) and fit.b / fit.a < 0,
     _text(N_("KL-дивергенция входит с неверным знаком: её вычитают."))),
    (lambda fit: _about(fit.b, fit.c), _weighted),
    # b = -c
    (lambda fit: _about(fit.b, -fit.c),
     _text(N_("log p(z) и log q(z | x) входят с одним знаком, а должны с разными."))),
]

_DIAGNOSES = [_bounded_kl, _wrong_coefficients, _importance_weighted_bound, _reverse_kl,
              _separate_samples, _another_mistake]
