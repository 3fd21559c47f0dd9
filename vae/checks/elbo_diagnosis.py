"""Exercise 5: the mistake in a wrong bound."""

import numpy as np
from scipy.special import logsumexp

from vae.checks.closed_forms import normal_log_prob
from vae.checks.elbo_draws import SMALL_KL
from vae.checks.exercise import Mistake, require
from vae.checks.latent_code import both_orders
from vae.language import _


def diagnose(values, own_log_px_z, kl, bounds, rounding, measured, x, loc, scale, z,
                         log_px_z):
    """elbo is not made of the samples that were seen: what is it, then?"""
    off = [np.abs(values - sum(terms)) >= rounding for terms in bounds]
    require(not any(one[SMALL_KL].any() and not one[:SMALL_KL.start].any() for one in off),
            _("elbo верна, пока KL-дивергенция велика, но не когда она мала: ограничивать её снизу "
              "(T.maximum, T.clip, free bits) не нужно."))
    n, hidden_dim = loc.shape[1:]
    k = z.shape[1] // n
    sizes = [(n, _("батчу")), (hidden_dim, _("координатам кода")), (28 * 28, _("пикселям")),
             (k, _("сэмплам")), (n * k, _("батчу и сэмплам")),
             (n * hidden_dim, _("батчу и координатам кода")),
             (n * 28 * 28, _("батчу и пикселям"))]
    hint = _what_is_wrong(values, bounds, rounding, sizes)
    require(hint is None, hint)
    if k > 1:
        require(not any((np.abs(values - one) < rounding).all()
                        for one in _importance_weighted(z, loc, scale, log_px_z)),
                _("это IWAE: логарифм среднего по сэмплам. Здесь нужно среднее логарифмов."))
    reverse = np.mean(0.5 * np.sum((1 + loc ** 2) / scale ** 2 - 1 + 2 * np.log(scale), axis=2),
                      axis=1)
    require(not any((np.abs(values - (terms[0] - reverse)) < rounding + 1e-4 * np.abs(reverse)).all()
                    for terms in bounds),
            _("KL-дивергенция взята в обратную сторону: KL(p || q), а нужна KL(q || p)."))

    quiet = np.asarray(measured["quiet_elbo"], dtype=float) - 28 * 28 * np.log(0.5)
    unbiased = all(_is_noise(error) for error in [values - (own_log_px_z - kl), quiet + kl])
    if unbiased and measured["in_a_loop"]:
        return  # samples that are drawn inside a loop can't be seen, only their average
    require(not unbiased,
            _("все слагаемые elbo нужно вычислять при одном и том же z: том, что подан на вход "
              "декодировщика. Не вызван ли qz_x.sample() второй раз? (Такая оценка тоже не смещена, "
              "но её дисперсия больше.)"))
    log_px, divergence = own_log_px_z[0], kl[0]
    raise Mistake(
        _("в задаче с известным ответом elbo = {values:.2f}, а должна быть около {log_px:.2f}: "
          "log p(x | z) = {log_px_2:.2f}, KL-дивергенция = {divergence:.2f}. Проверьте оба "
          "слагаемых: по пикселям и координатам кода — суммы, по батчу — среднее.").format(
            values=values[0], log_px=log_px - divergence, log_px_2=log_px, divergence=divergence))


def _what_is_wrong(values, bounds, rounding, sizes):
    """Name the mistake of a sum of the same terms with other factors, or return None.

    The factors are found by least squares over the draws.
    """
    for terms in bounds:
        matrix = np.column_stack([*terms, np.ones(len(values))])
        scaling = np.abs(matrix).max(axis=0)
        factors = np.linalg.lstsq(matrix / scaling, values, rcond=1e-9)[0] / scaling
        if (np.abs(matrix @ factors - values) < rounding * max(1, *np.abs(factors[:3]))).all():
            hint = _name_of(*factors, sizes)
            if hint is not None:
                return hint
    return None


def _name_of(of_x, prior, entropy, constant, sizes):
    def zero(value):
        return abs(value) < 1e-3

    def guess(factor):
        """What may have been done to a term to get this factor."""
        for size, of_what in sizes:
            if size > 1 and _is(factor, size):
                return _(" (похоже, лишняя сумма по {of_what})").format(of_what=of_what)
            if size > 1 and _is(factor, 1 / size):
                return _(" (похоже, лишнее среднее по {of_what})").format(of_what=of_what)
        return ""

    if all(_is(one, of_x) for one in (prior, entropy)) and not zero(of_x):
        if _is(of_x, 1):
            return _("elbo отличается от нужной на постоянную {constant:.1f}.").format(
                       constant=constant)
        if _is(of_x, -1):
            return _("у elbo неверный знак: это оценка, которую максимизируют, около -100.")
        return _("elbo умножена на {of_x:.3g}, а должна быть средней по батчу{guess}.").format(
                   of_x=of_x, guess=guess(abs(of_x)))
    if zero(of_x):
        return _("нет слагаемого log p(x | z).") if not zero(prior) or not zero(entropy) else None
    if zero(prior) and zero(entropy):
        return _("нет KL-дивергенции: log p(z) и log q(z | x) тоже входят в elbo.")
    if zero(entropy):
        return _("нет слагаемого -log q(z | x).")
    if zero(prior):
        return _("нет слагаемого log p(z).")
    if _is(prior, entropy):
        if prior / of_x < 0:
            return _("KL-дивергенция входит с неверным знаком: её вычитают.")
        parts = [_("множитель при {name} — {factor:.3g}, а должен быть 1{guess}").format(
                     name=name, factor=factor, guess=guess(factor))
                 for name, factor in [("log p(x | z)", of_x), (_("KL-дивергенции"), prior)]
                 if not _is(factor, 1)]
        return "; ".join(parts) + "."
    if _is(prior, -entropy):
        return _("log p(z) и log q(z | x) входят с одним знаком, а должны с разными.")
    return None


def _is(value, expected):
    return abs(value - expected) < 0.02 * max(abs(expected), 1e-4)


def _importance_weighted(z, loc, scale, log_px_z):
    """The bound of Burda, Grosse and Salakhutdinov (2016), eq. 8, for either order of samples."""
    n_draws, n = loc.shape[:2]
    k = z.shape[1] // n
    for index, (some_loc, some_scale) in enumerate(
            zip(*[both_orders(values, z.shape[1], axis=1) for values in (loc, scale)])):
        weights = (log_px_z[:, index] + normal_log_prob(z, 0., np.ones_like(z))
                   - normal_log_prob(z, some_loc, some_scale))
        shape, axis = ((n_draws, n, k), 2) if index == 0 else ((n_draws, k, n), 1)
        yield np.mean(logsumexp(weights.reshape(shape), axis=axis) - np.log(k), axis=1)


def _is_noise(error):
    """Whether the mean of the errors is 0 for each encoder, and for all of them together."""
    error = error.reshape(5, 10)
    spread = error.std(axis=1, ddof=1) + 1e-4 * np.abs(error).max() + 1e-3
    return ((np.abs(error.mean(axis=1)) < 8 * spread / np.sqrt(10)).all()
            and abs(np.mean(error.mean(axis=1) / spread)) < 5 / np.sqrt(50))
