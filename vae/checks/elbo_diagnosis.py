"""A search for the mistake that explains a wrong bound.

`diagnose` tries the functions of `_DIAGNOSES` in order. Each function takes the draws of a bound,
and returns a hint, or None if the bound does not have this mistake.
"""

from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from scipy.special import logsumexp

from vae.checks.closed_forms import normal_log_prob
from vae.checks.elbo_draws import ESTIMATES, N_ENCODERS, Estimate
from vae.checks.latent_code import both_orders
from vae.language import N_, _

N_PIXELS = 28 * 28
#: The largest ratio of the variance of a right bound's errors to the expected variance. It allows
#: for chance.
MAX_RATIO_OF_VARIANCES = 3.


def diagnose(draws):
    """Return the mistake in a bound that equals none of ``draws.estimates``.

    Parameters
    ----------
    draws : vae.checks.elbo_draws.Draws

    Returns
    -------
    str or None
        A hint in the reader's language. None if the estimate is unbiased and its samples are drawn
        inside a loop: the check cannot see these samples, so the bound may be right.
    """
    for diagnosis in _DIAGNOSES:
        hint = diagnosis(draws)
        if hint is not None:
            return hint
    return None


def _bounded_kl(draws):
    for terms in draws.estimates:
        wrong = np.abs(draws.elbo - sum(terms)) >= draws.rounding
        *large_kl, small_kl = np.split(wrong, N_ENCODERS)
        n_right = sum(not encoder.any() for encoder in large_kl)
        if small_kl.any() and n_right >= len(large_kl) / 2:
            return _("elbo верна, пока KL-дивергенция велика, но не когда она мала: ограничивать "
                     "её снизу (T.maximum, T.clip, free bits) не нужно.")
    return None


def _importance_weighted_bound(draws):
    if draws.n_samples > 1 and any(
            draws.elbo_equals(bound) for bound in _importance_weighted_bounds(draws)):
        return _("это IWAE: логарифм среднего по сэмплам. Здесь нужно среднее логарифмов.")
    return None


def _importance_weighted_bounds(draws):
    """Yield the bound of Burda, Grosse and Salakhutdinov (2016), eq. 8, for each sample order."""
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


def _terms_elsewhere(draws):
    """Return a hint if log p(z) or log q(z | x) is evaluated at loc or at the noise of the code."""
    loc, scale, code = draws.loc, draws.scale, draws.code
    locs, scales = (both_orders(values, code.shape[1], axis=1) for values in (loc, scale))
    for order in range(2):
        eps = (code - locs[order]) / scales[order]
        points = [("qz_x.loc", locs[order]), ("eps", eps)]
        # Closed forms are left out. Who writes log q(z | x) at loc does not write the closed form of
        # E log p(z), and their sum is also that of closed forms without a constant.
        _log_px_z, prior, entropy = draws.estimates[ESTIMATES.index(Estimate(order, True, True))]
        priors = [("", prior)] + [
            (f"pz.log_prob({name})", np.mean(normal_log_prob(point, 0., 1.), axis=1))
            for name, point in points]
        entropies = [("", entropy)] + [
            (f"qz_x.log_prob({name})",
             -np.mean(normal_log_prob(point, locs[order], scales[order]), axis=1))
            for name, point in points]
        log_px_z = np.mean(draws.log_px_z[:, order], axis=1)
        for (at_prior, prior), (at_entropy, entropy) in product(priors, entropies):
            if draws.elbo_equals(log_px_z + prior + entropy):
                return _("в elbo вошло {terms}, а все её слагаемые нужны при одном и том же z: том, "
                         "что подан на вход декодировщика.",
                         terms=", ".join(filter(None, [at_prior, at_entropy])))
    return None


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
    elbo, log_px_z, kl = (_of_each_encoder(values)[0].mean()
                          for values in (draws.elbo, draws.own_log_px_z, draws.kl))
    return _("при случайных весах сетей elbo = {elbo:.2f}, а должна быть около {expected:.2f}: "
             "log p(x | z) = {log_px_z:.2f}, KL-дивергенция = {kl:.2f}. Проверьте оба слагаемых: "
             "по пикселям и координатам кода — суммы, по батчу — среднее.",
             elbo=elbo, expected=log_px_z - kl, log_px_z=log_px_z, kl=kl)


def _is_unbiased(draws):
    """Return whether elbo has the right mean, with the model's decoder and with a constant one."""
    log_px_z, prior, entropy = draws.estimates[0]
    noise_of_kl = _spread(prior) + _spread(entropy)
    error = draws.elbo - (draws.own_log_px_z - draws.kl)
    # The constant decoder's logits are 0, so log p(x | z) = N_PIXELS * log 0.5.
    error_of_constant = draws.elbo_of_constant_decoder - N_PIXELS * np.log(0.5) + draws.kl
    return (_has_zero_mean(error, noise_of_kl + 2 * _spread(log_px_z))
            and _has_zero_mean(error_of_constant, noise_of_kl))


def _of_each_encoder(values):
    return values.reshape(N_ENCODERS, -1)


def _spread(values):
    """Return the standard deviation for each encoder."""
    return _of_each_encoder(values).std(axis=1, ddof=1)


def _has_zero_mean(error, noise):
    """Return whether the mean of the errors is 0 for each encoder, and for all encoders together.

    The errors must not be noisier than the terms of the bound: noise would hide a wrong mean.

    Parameters
    ----------
    error : numpy.ndarray, shape (draws,)
    noise : numpy.ndarray, shape (N_ENCODERS,)
        For each encoder, the largest standard deviation of the errors of a right bound.
    """
    means = _of_each_encoder(error).mean(axis=1)
    rounding = 1e-4 * np.abs(error).max() + 1e-3
    spread = _spread(error) + rounding
    n_draws = error.size // N_ENCODERS
    return (np.mean((spread / (noise + rounding)) ** 2) < MAX_RATIO_OF_VARIANCES
            and (np.abs(means) < 8 * spread / np.sqrt(n_draws)).all()
            and abs(np.mean(means / spread)) < 5 / np.sqrt(error.size))


def diagnose_loss(draws):
    """Return the factor of -loss, or its term that is missing or has a wrong coefficient.

    Parameters
    ----------
    draws : vae.checks.elbo_draws.Draws

    Returns
    -------
    str or None
        A hint in the reader's language. None if this does not explain the loss.
    """
    ratio = -draws.loss / draws.elbo
    if np.ptp(ratio) < 1e-3 * abs(np.mean(ratio)):
        return _("множителем {factor:.3g}.", factor=np.mean(ratio))
    return _wrong_coefficients(replace(draws, elbo=-draws.loss), multiples=False)


# --- wrong coefficients ---

@dataclass(frozen=True)
class _Coefficients:
    """A model of a wrong bound: the right terms, each with a coefficient, and a constant.

    ``elbo ≈ a · E log p(x | z) + b · E log p(z) + c · H[q(z | x)] + d``, in nats, where H is the
    entropy. The right bound has a = b = c = 1 and d = 0; -KL(q || p) is the second term plus the
    third.
    """

    a: float
    b: float
    c: float
    d: float


def _wrong_coefficients(draws, multiples=True):
    """Fit the coefficients to the draws, once for each estimate of the terms, and return a hint.

    If `multiples` is false, there is no hint for equal coefficients, that is, for a multiple of the
    bound. Return None if no estimate gives a fit with a hint.
    """
    for terms in draws.estimates:
        matrix = np.column_stack([*terms, np.ones(len(draws.elbo))])
        scaling = np.abs(matrix).max(axis=0)
        fitted = np.linalg.lstsq(matrix / scaling, draws.elbo, rcond=1e-9)[0] / scaling
        tolerance = draws.rounding * max(1, *np.abs(fitted[:3]))
        fit = _Coefficients(*fitted)
        if ((np.abs(matrix @ fitted - draws.elbo) < tolerance).all()
                and (multiples or not _all_equal(fit, tolerance=0.02))):
            hint = _explain_coefficients(fit, draws)
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
    """Return whether a fitted coefficient equals its expected value, up to errors of the fit."""
    return abs(value - expected) < tolerance * max(abs(expected), 1e-4)


def _largest(fit):
    return max(abs(fit.a), abs(fit.b), abs(fit.c))


def _zero(fit, *names):
    """Return whether these coefficients are 0, compared with the largest one."""
    return all(abs(getattr(fit, name)) < 1e-3 * _largest(fit) for name in names)


def _all_equal(fit, tolerance=0.003):
    return not _zero(fit, "a") and all(_about(value, fit.a, tolerance) for value in (fit.b, fit.c))


def _constant_added(fit, draws):
    return _("elbo отличается от нужной на постоянную {constant:.1f}.", constant=fit.d)


def _multiplied(fit, draws):
    return _("elbo умножена на {factor:.3g}, а должна быть средней по батчу{guess}.",
             factor=fit.a, guess=_guess(abs(fit.a), draws))


def _weighted(fit, draws):
    factors = [("log p(x | z)", fit.a, False), (_("KL-дивергенции"), fit.b, True)]
    wrong_factors = ([row for row in factors if not _about(row[1], 1)]
                     or [max(factors, key=lambda row: abs(row[1] - 1))])
    return "; ".join(
        _("множитель при {term} — {factor:.4g}, а должен быть 1{guess}",
          term=term, factor=factor, guess=_guess(factor, draws, of_kl))
        for term, factor, of_kl in wrong_factors) + "."


def _guess(factor, draws, of_kl=False):
    """Return a text with the mistakes that may explain this factor of a term, or ""."""
    guesses = []
    if of_kl and _about(factor, 2, 0.02):
        guesses.append(_("в её формуле потерян множитель 1/2"))
    if of_kl and _about(factor, 0.5, 0.02):
        guesses.append(_("множитель 1/2 в её формуле взят дважды"))
    for size, dimension in _sizes(draws):
        if size > 1 and _about(factor, size, 0.02):
            guesses.append(_("лишняя сумма по {dimension}", dimension=dimension))
        elif size > 1 and _about(factor, 1 / size, 0.02):
            guesses.append(_("лишнее среднее по {dimension}", dimension=dimension))
    return _(" (похоже, {guesses})", guesses=_(" или ").join(guesses)) if guesses else ""


def _sizes(draws):
    """Return the sizes over which a term may have been summed or averaged, with their names."""
    _n_draws, batch_size, hidden_dim = draws.loc.shape
    sizes = [(batch_size, _("батчу")), (hidden_dim, _("координатам кода")),
             (N_PIXELS, _("пикселям")), (batch_size * hidden_dim, _("батчу и координатам кода")),
             (batch_size * N_PIXELS, _("батчу и пикселям"))]
    if draws.n_samples > 1:
        sizes += [(draws.n_samples, _("сэмплам")),
                  (batch_size * draws.n_samples, _("батчу и сэмплам"))]
    return sizes


def _text(hint):
    """Return a function for `_PATTERNS` that returns a hint without placeholders."""
    return lambda fit, draws: _(hint)


#: Pairs of a pattern and its hint: a function ``fit -> bool`` and a function
#: ``(fit, draws) -> str or None``. Only the hint of the first pattern that matches is used.
_PATTERNS = [
    (lambda fit: _largest(fit) < 1e-5, lambda fit, draws: None),  # no term of the bound is in it
    # a = b = c
    (lambda fit: _all_equal(fit) and _about(fit.a, 1) and abs(fit.d) >= 0.05,
     _constant_added),
    (lambda fit: _all_equal(fit) and _about(fit.a, -1),
     _text(N_("у elbo неверный знак: её максимизируют, и при обучении она растёт примерно от -180 "
              "до -150 и выше."))),
    (lambda fit: _all_equal(fit) and not _about(fit.a, 1), _multiplied),
    # some coefficients are 0
    (lambda fit: _zero(fit, "a"), _text(N_("нет слагаемого log p(x | z)."))),
    (lambda fit: _zero(fit, "b", "c"),
     _text(N_("нет KL-дивергенции: log p(z) и log q(z | x) тоже входят в elbo."))),
    (lambda fit: _zero(fit, "c"), _text(N_("нет слагаемого -log q(z | x)."))),
    (lambda fit: _zero(fit, "b"), _text(N_("нет слагаемого log p(z)."))),
    # b = c: the KL divergence is present, but its coefficient differs from that of log p(x | z)
    (lambda fit: _about(fit.b, fit.c) and fit.a < 0 < fit.b,
     _text(N_("log p(x | z) входит с неверным знаком: это слагаемое прибавляют."))),
    (lambda fit: _about(fit.b, fit.c) and fit.b < 0 < fit.a,
     _text(N_("KL-дивергенция входит с неверным знаком: её вычитают."))),
    (lambda fit: _about(fit.b, fit.c), _weighted),
    # b = -c
    (lambda fit: _about(fit.b, -fit.c),
     _text(N_("log p(z) и log q(z | x) входят с одним знаком, а должны с разными."))),
]

_DIAGNOSES = [_terms_elsewhere, _wrong_coefficients, _bounded_kl, _importance_weighted_bound,
              _reverse_kl, _separate_samples, _another_mistake]
