# %% [markdown]
# ### Упражнение 6. Граница IWAE
#
# Пусть $z_1, \dots, z_K$ — сэмплы из $q(z \mid x)$, а $w_k = \frac{p(x, z_k)}{q(z_k \mid x)}$ — их веса. Тогда $\log \frac{1}{K} \sum_{k=1}^K w_k$ в среднем не больше $\log p(x)$ и не меньше ELBO (Burda et al., 2016). Напишите функцию, которая вычисляет эту оценку по логарифмам весов. Вычтите из логарифмов их максимум по $k$: $e^{-150}$ в float32 — это ноль.

# %% tags=["exercise-6"]
def iwae_bound(log_w):
    ### BEGIN SOLUTION
    largest = T.max(log_w, axis=0)
    return largest + T.log(T.mean(T.exp(log_w - largest), axis=0))
    ### END SOLUTION
### BEGIN TODO
# log_w — логарифмы весов, матрица формы (K, batch).
# Верните оценку для каждого изображения, вектор формы (batch,)
raise NotImplementedError('Упражнение 6: напишите iwae_bound() и удалите эту строку')
### END TODO

# %% tags=["check-6"]
check(6)
