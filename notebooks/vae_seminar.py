# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Вариационный автокодировщик
#
# Обычный автокодировщик сжимает объект в код и восстанавливает объект по коду, то есть выучивает тождественное отображение. Вместо тождественного отображения вариационный автокодировщик выучивает вероятностную модель данных. Стохастические вычисления и априорное распределение кодов дополнительно регуляризуют модель.
#
# За упражнения этого ноутбука можно получить баллы:
#
# INCLUDE exercises
#
# Ещё в ноутбуке три вопроса: о функциях активации, о функции потерь и о пространстве представлений. Ответы на них пишут словами. Автоматически они не оцениваются, их читает преподаватель. В конце есть два необязательных раздела, в которых можно сравнить модели.

# %% [markdown]
# ## Кратко о вариационных автокодировщиках
#
# Рассмотрим вариационный автокодировщик для бинарных наблюдений: $x$ — изображение из $D$ пикселей, и каждый пиксель $x_i$ равен 0 или 1. Вариационный автокодировщик состоит из генеративной модели наблюдений
#
# \begin{align}
# & p(x, z \mid \theta) = p(x \mid z, \theta) p(z) \\
# & p(x \mid z, \theta) = \prod_{i = 1}^D p_i(z, \theta)^{x_i} (1 - p_i(z, \theta))^{1 - x_i} \\
# & p(z) = \mathcal N(z \mid 0, I)
# \end{align}
#
# и приближённого апостериорного распределения
#
# \begin{equation}
# q(z \mid x, \phi) = \mathcal N(z \mid \mu(x, \phi), \operatorname{diag}(\sigma^2(x, \phi)))
# \end{equation}
#
# Здесь $z$ — код, вектор небольшой размерности, а $I$ — единичная матрица. Вероятность $p_i(z, \theta)$ того, что пиксель $i$ равен 1, вычисляет по коду декодировщик, сеть с весами $\theta$. Средние $\mu(x, \phi)$ и стандартные отклонения $\sigma(x, \phi)$ вычисляет по изображению кодировщик, сеть с весами $\phi$.
#
# Выполните следующую ячейку. Она подключает библиотеки и загружает MNIST, изображения цифр, у которых $D = 28 \cdot 28 = 784$.
#
# Если она предупредит, что загружен не весь MNIST, ноутбук всё равно будет работать: на 5 000 изображений, которые установлены вместе с ним. Эпоха тогда длится доли секунды, но за десять эпох нижняя оценка (её определение ниже) дорастёт лишь примерно до -172. Возьмите `num_epochs = 50`, и она дойдёт примерно до -157.

# %%
import vae  # первым: с ним Theano и Lasagne работают на современном Python
vae.use_language('ru')

import time

import numpy as np
import theano
import theano.tensor as T
import lasagne

# %matplotlib inline

from utils import load_dataset, iterate_minibatches, plot_model, TrainingPicture
from theano.sandbox.rng_mrg import MRG_RandomStreams as RandomStreams

from vae import BinaryVector, vae_decoder_mlp, show_source
from vae.distributions import as_tensor
from vae.checks import check, check_current

BATCH_SIZE = 20
HIDDEN_DIM = 2

num_epochs = 10

np.random.seed(42)  # повторный запуск всех ячеек даст те же числа

X_train, y_train, X_val, y_val, X_test, y_test = load_dataset()

# %% [markdown]
# Что из чего вычисляется, видно на схеме. Шум $\varepsilon$ берётся извне, поэтому градиент проходит через код $z$ от декодировщика к кодировщику.

# %%
plot_model()

# %% [markdown]
# ### Нижняя оценка
#
# Для краткости все выкладки приводятся для одного наблюдения $x$, параметры распределений по возможности опускаются.
#
# Модель тем лучше, чем больше логарифм обоснованности $p(x \mid \theta) = \int p(x \mid z, \theta) p(z) \, dz$. Этот интеграл не вычислить, но его логарифм можно оценить снизу. По формуле Байеса $p(x \mid \theta) = \frac{p(x \mid z, \theta) p(z)}{p(z \mid x, \theta)}$ при любом $z$, поэтому
#
# \begin{align}
# \log p(x \mid \theta) &= \mathbb E_{q(z \mid x, \phi)} \log \frac{p(x \mid z, \theta) p(z)}{q(z \mid x, \phi)} + \mathbb E_{q(z \mid x, \phi)} \log \frac{q(z \mid x, \phi)}{p(z \mid x, \theta)} \\
# &= \mathcal L(x, \theta, \phi) + \operatorname{KL}(q(z \mid x, \phi) \,\|\, p(z \mid x, \theta)) \ge \mathcal L(x, \theta, \phi)
# \end{align}
#
# Неравенство верно, потому что KL-дивергенция не бывает отрицательной. Первое слагаемое, $\mathcal L$, называется нижней оценкой логарифма обоснованности (evidence lower bound, ELBO). Она тем точнее, чем ближе $q(z \mid x, \phi)$ к точному апостериорному распределению $p(z \mid x, \theta)$.
#
# Для набора данных при обучении используется среднее значение нижней оценки. Цель обучения — максимизировать её:
#
# $$ \mathcal L(x, \theta, \phi) = \mathbb E_{q(z \mid x, \phi)} \log p(x \mid z, \theta) - \operatorname{KL}(q(z \mid x, \phi) \,\|\, p(z)) = \mathbb E_{q(z \mid x, \phi)} \log \frac{p(x \mid z, \theta) p(z)}{q(z \mid x, \phi)} \rightarrow \max_{\theta, \phi} $$
#
# Как было рассказано на лекции, на практике вместо математического ожидания берут среднее по $K$ сэмплам, несмещённую оценку этого ожидания:
#
# \begin{align*}
# &\frac{1}{K} \sum_{k=1}^K \log \frac{p(x \mid z_k, \theta) p(z_k)}{q(z_k \mid x, \phi)} \\
# & \\
# &z_k = \mu(x, \phi) + \sigma(x, \phi) \odot \varepsilon_k \\
# &\varepsilon_k \sim \mathcal N(0, I), \text{ независимо}
# \end{align*}
#
# Знак $\odot$ обозначает поэлементное умножение. В обучении $K = 1$, и оценка максимизируется с помощью стохастического градиентного подъёма.

# %% [markdown]
# ## Как выполнять упражнения
#
# Место для кода отмечено комментарием и строкой `raise NotImplementedError(...)`: напишите решение и удалите эту строку. Сразу после упражнения стоит ячейка `check(...)`: она скажет, верно ли решение, и если нет, то на что посмотреть. Проверять можно сколько угодно раз, на результаты обучения это не влияет.

# %% [markdown]
# ## Как это реализовать?
#
# Для вычисления приведённой выше нижней оценки необходимо уметь:
# 1. Вычислять логарифм вероятности $p(x \mid z)$ и логарифмы плотностей $p(z)$ и $q(z \mid x)$;
# 2. Сэмплировать из $q(z \mid x)$.
#
# Следуя практике *tensorflow_probability*, мы реализуем распределения как два класса с методами *log_prob()* и *sample()*.
#
# Первый класс уже готов и лежит в модуле `vae`. Вместо вероятности $p_i$ он хранит её логит $l_i = \log \frac{p_i}{1 - p_i}$. Тогда $\log p_i = l_i - \operatorname{softplus}(l_i)$ и $\log (1 - p_i) = -\operatorname{softplus}(l_i)$, где $\operatorname{softplus}(l) = \log(1 + e^l)$, и логарифм никогда не берётся от вероятности, которая округлилась до нуля.

# %%
show_source(BinaryVector)

# %% [markdown]
# ### Упражнение 1. Сэмплирование из $q(z \mid x)$
#
# Во втором классе готов метод *log_prob()*. Напишите метод *sample()*: из шума $\varepsilon \sim \mathcal N(0, I)$ сделайте сэмпл $z = \mu + \sigma \odot \varepsilon$. Здесь $\mu$ — это `self.loc`, а $\sigma$ — `self.scale`, матрицы формы (batch, dim).
#
# Шум даёт `self.rng.normal(size=...)`. Аргумент `size` — форма шума. Размер батча заранее не известен, поэтому и форма символьная: у тензора `t` это `t.shape`.
#
# Функция `as_tensor` проверяет, что аргумент — тензор с нужным числом измерений.

# %% tags=["exercise-1"]
# INCLUDE vae.distributions.MultivariateNormalDiag
### BEGIN TODO
# Сэмплирование из q(z | x) — ключевой момент в вариационном автокодировщике.
# Пользуясь методом self.rng.normal(), реализуйте его самостоятельно
raise NotImplementedError('Упражнение 1: напишите sample() и удалите эту строку')
### END TODO

# %% tags=["check-1"]
check(1)

# %% [markdown]
# ### Две сети
#
# Для параметров распределений построим две сети из слоёв Lasagne. Первый аргумент слоя — слой, который стоит перед ним. Все слои и функции активации описаны в документации: [слои](https://lasagne.readthedocs.io/en/latest/modules/layers.html), [функции активации](https://lasagne.readthedocs.io/en/latest/modules/nonlinearities.html). Документация описывает более новую Lasagne, чем версия 0.1, с которой работаем мы: например, `elu` у нас — `T.nnet.elu`.
#
# Вторая сеть, декодировщик, готова. Она возвращает логиты, поэтому на её выходе нет нелинейности.

# %%
show_source(vae_decoder_mlp)

# %% [markdown]
# ### Упражнение 2. Кодировщик
#
# Первую сеть, кодировщик, постройте сами. Обратите внимание: у неё два выхода, средние $\mu(x, \phi)$ и стандартные отклонения $\sigma(x, \phi)$.

# %% tags=["exercise-2"]
# INCLUDE vae.networks.vae_encoder_mlp
### BEGIN TODO
# Реализуйте какую-нибудь несложную сеть, которая возвращает вектор средних
# и вектор стандартных отклонений (слои l_out_loc и l_out_scale).
# Их размерность должна быть hidden_dim. Какие функции активации нужно использовать?
raise NotImplementedError('Упражнение 2: постройте слои кодировщика и удалите эту строку')
### END TODO

# %% tags=["check-2"]
check(2)

# %% [markdown] tags=["question-1"]
# **Вопрос 1.** Какие функции активации нужно использовать на двух выходах кодировщика и почему?
#
# ### BEGIN TODO
# *Ваш ответ:*
# ### END TODO
# ### BEGIN SOLUTION
# *Ответ.* Среднее — любое вещественное число, поэтому на его выходе нет нелинейности. Стандартное отклонение положительно, поэтому нужна функция с положительными значениями: $\operatorname{softplus}$ или $\exp$ (тогда сеть предсказывает $\log \sigma$). ReLU не подходит: она обращается в ноль, и тогда $\log \sigma = -\infty$. В скрытых слоях годится любая обычная нелинейность.
# ### END SOLUTION

# %% [markdown]
# ## Строим граф вычислений
#
# ### Упражнение 3. Апостериорное распределение $q(z \mid x)$
#
# Вход графа, `input_x`, — батч изображений. Функция кодировщика возвращает слои, а распределению нужны тензоры: выход слоя даёт функция `lasagne.layers.get_output`.

# %% tags=["exercise-3"]
input_x = T.tensor4('inputs')
### BEGIN TODO
# Определите encoder_mean, encoder_scale (слои), затем
# определите объект для апостериорного распределения qz_x
raise NotImplementedError('Упражнение 3: определите encoder_mean, encoder_scale, qz_x '
                          'и удалите эту строку')

encoder_mean, encoder_scale = ..., ...
qz_x = ...  # MultivariateNormalDiag ...
### END TODO
### BEGIN SOLUTION
encoder_mean, encoder_scale = vae_encoder_mlp(input_x)
qz_x = MultivariateNormalDiag(
    loc=lasagne.layers.get_output(encoder_mean),
    scale=lasagne.layers.get_output(encoder_scale)
)
### END SOLUTION

# %% tags=["check-3"]
check(3)

# %% [markdown]
# ### Упражнение 4. Генеративная модель $p(x, z)$
#
# Возьмите из $q(z \mid x)$ сэмпл `z` и подайте его на вход декодировщика. Размерность кода декодировщику сообщает аргумент `hidden_dim=HIDDEN_DIM`. Параметры `loc` и `scale` распределения `pz` — тензоры той же формы, что у `z`: (batch, HIDDEN_DIM).

# %% tags=["exercise-4"]
### BEGIN TODO
# Определите параметр p(x | z) decoder_logits (слой), затем
# определите объекты pz распределения p(z) и px_z распределения p(x | z)
raise NotImplementedError('Упражнение 4: определите z, decoder_logits, pz, px_z '
                          'и удалите эту строку')

z = ...  # qz_x ...
decoder_logits = ...  # vae_decoder_mlp ...
pz = ...  # MultivariateNormalDiag ...
px_z = ...  # BinaryVector ...
### END TODO
### BEGIN SOLUTION
z = qz_x.sample()
decoder_logits = vae_decoder_mlp(z, hidden_dim=HIDDEN_DIM)
pz = MultivariateNormalDiag(loc=T.zeros_like(z), scale=T.ones_like(z))
px_z = BinaryVector(lasagne.layers.get_output(decoder_logits))
### END SOLUTION

# %% tags=["check-4"]
check(4)

# %% [markdown]
# ### Упражнение 5. ELBO, параметры и функция потерь
#
# Оцените ELBO по одному сэмплу:
#
# $$ \log p(x \mid z) + \log p(z) - \log q(z \mid x), \qquad z \sim q(z \mid x) $$
#
# Во всех трёх слагаемых сэмпл $z$ один и тот же. Если у каждого слагаемого свой сэмпл, оценка тоже не смещена, но её дисперсия, как правило, больше, и здесь она не принимается. А вот среднее по $K > 1$ сэмплам и KL-дивергенция, вычисленная по формуле, годятся.
#
# Правила обновления весов, строка `updates = ...`, готовы, менять их не нужно. Проверка этого упражнения смотрит и на градиенты `loss`: это занимает несколько секунд.

# %% tags=["exercise-5"]
### BEGIN TODO
# Пользуясь методами px_z, pz, qz_x, определите elbo (ELBO, среднюю по батчу)
# и loss (функцию потерь для вариационного автокодировщика).
# При обучении ELBO растёт примерно от -180 (в первой эпохе) до -150 и выше.
# Создайте список params параметров обеих сетей для передачи в оптимизатор.
# Что использовать в качестве функции потерь?
raise NotImplementedError('Упражнение 5: определите elbo, params, loss и удалите эту строку')

elbo = None
params = None
loss = None
### END TODO
### BEGIN SOLUTION
elbo = T.mean(px_z.log_prob(input_x) + pz.log_prob(z) - qz_x.log_prob(z))
params = lasagne.layers.get_all_params([encoder_mean, encoder_scale, decoder_logits],
                                       trainable=True)
loss = -elbo
### END SOLUTION
updates = lasagne.updates.adam(loss, params)

# %% tags=["check-5"]
check(5)

# %% [markdown] tags=["question-2"]
# **Вопрос 2.** Что использовать в качестве функции потерь?
#
# ### BEGIN TODO
# *Ваш ответ:*
# ### END TODO
# ### BEGIN SOLUTION
# *Ответ.* Оптимизатор минимизирует, а нижнюю оценку нужно максимизировать, поэтому функция потерь — это оценка $-\mathcal L$ по одному сэмплу $z$ на объект, усреднённая по батчу. Её градиент по параметрам обеих сетей — несмещённая оценка градиента $-\mathcal L$: благодаря репараметризации он проходит через $z$ к кодировщику.
# ### END SOLUTION

# %% [markdown]
# ## Обучение
#
# Определим функции. Если есть компилятор C++, Theano переводит граф в код на этом языке и компилирует его: в первый раз это занимает до минуты, потом используется уже скомпилированное. Если компилятора нет, граф вычисляет NumPy.
#
# Если выполнить ячейку упражнения заново, уже построенные функции останутся прежними. За этим следит `check_current`: она скажет, какие ячейки нужно выполнить ещё раз. Веса сетей создаются в упражнениях 3 и 4, и с новыми весами начинается новая кривая обучения.

# %% tags=["functions"]
from utils import learning_curves, stop_if_diverged

check_current('elbo', 'updates')

train = theano.function(
    [input_x],
    elbo,
    updates=updates
)

elbo_at_test = theano.function(
    [input_x],
    elbo
)

reconstruct = theano.function(
    [input_x],
    T.nnet.sigmoid(lasagne.layers.get_output(decoder_logits))
)

networks = [encoder_mean, encoder_scale, decoder_logits]
train_curve, test_curve = learning_curves(networks)  # ELBO по эпохам, у новых сетей пусто

# %% [markdown]
# Обратите внимание, что тут предложена вероятностная модель для бинарных данных. MNIST содержит полутоновые изображения: значения пикселей от 0 до 1. На практике при обучении автокодировщика получают бинарные данные, на каждом шаге заново выбирая значение пикселя случайно, в зависимости от его интенсивности $t_i$ в объекте из данных:
#
# $$ x_i \sim \operatorname{Bernoulli}(t_i), \quad i = 1, \dots, D $$
#
# Такой приём называется динамической бинаризацией, он эффективно расширяет обучающую выборку и приводит к лучшим значениям правдоподобия обученных моделей. В коде ниже это строка `batch = np.random.rand(*batch.shape) < batch`.

# %% [markdown]
# И обучим модель. После каждой эпохи рисунок обновляется: слева растёт ELBO, справа реконструкции становятся похожи на оригиналы. Обучение можно прервать (*Kernel → Interrupt*) и продолжить, выполнив ячейку ещё раз. На тестовой выборке ELBO той же эпохи обычно выше, чем на обучающей: для обучающей усредняются и первые шаги эпохи, когда веса были хуже, а для тестовой берутся уже веса после неё.

# %% tags=["training"]
check_current('train', 'elbo_at_test', 'reconstruct')

first_epoch = len(train_curve) + 1
with TrainingPicture(X_test[:8], reconstruct, train_curve, test_curve) as picture:
    for epoch in range(first_epoch, first_epoch + num_epochs):
        train_elbo, train_batches = 0, 0
        start_time = time.time()
        for batch in iterate_minibatches(X_train, batchsize=BATCH_SIZE,
                                         progress='Эпоха {}'.format(epoch)):
            batch = np.random.rand(*batch.shape) < batch
            train_elbo += train(batch)
            train_batches += 1
            stop_if_diverged(train_elbo)

        test_elbo, test_batches = 0, 0
        for batch in iterate_minibatches(X_test, batchsize=BATCH_SIZE):
            batch = np.random.rand(*batch.shape) < batch
            test_elbo += elbo_at_test(batch)
            test_batches += 1
        stop_if_diverged(test_elbo)

        train_curve.append(train_elbo / train_batches)
        test_curve.append(test_elbo / test_batches)
        print('Эпоха {}: {:.1f} с. ELBO на обучающей выборке {:.2f}, на тестовой {:.2f}'.format(
              epoch, time.time() - start_time, train_curve[-1], test_curve[-1]))
        picture.update()

# %% [markdown]
# ## Что получается? Визуализации

# %% tags=["codes"]
from utils import (plot_learning_curve, plot_reconstructions, plot_hidden_space, plot_manifold,
                   explore_manifold)

check_current('qz_x', 'decoder_logits')

encode = theano.function(
    [input_x],
    qz_x.sample()
)

input_z = T.matrix('codes')
decode = theano.function(
    [input_z],
    T.nnet.sigmoid(lasagne.layers.get_output(decoder_logits, input_z))
)

# %% [markdown]
# Как росла нижняя оценка при обучении.

# %%
check_current('train_curve')
plot_learning_curve(train_curve, test_curve)

# %% [markdown]
# Визуализируем среднее распределения $p(x \mid z)$ при одном сэмпле $z$ для каждого изображения. Сети подаются сами полутоновые изображения, хотя обучалась она на бинарных.

# %%
check_current('reconstruct')
plot_reconstructions(X_test, reconstruct)

# %% [markdown]
# Посмотрим на пространство представлений: нарисуем каждый объект там, где находится его код, один сэмпл из $q(z \mid x)$. Цвет обозначает цифру, модель её не знает.

# %%
check_current('encode')
plot_hidden_space(X_test[:1000], encode, y_test[:1000])

# %%
check_current('encode')
# рисуем по 25 сэмплов кода для каждого объекта
x_test_repeated = np.repeat(X_test[:25], repeats=25, axis=0)
plot_hidden_space(x_test_repeated, encode)

# %% [markdown]
# Теперь в обратную сторону: возьмём коды на сетке из квантилей априорного распределения $p(z)$ и посмотрим, какие изображения им соответствуют.

# %%
check_current('decode')
plot_manifold(decode)

# %% [markdown]
# Эту плоскость можно исследовать и самим: двигайте ползунки, и выбранный код сразу декодируется. Что происходит на границе между двумя цифрами? А далеко от нуля, там, где плотность $p(z)$ мала?

# %%
check_current('decode')
explore_manifold(decode)

# %% [markdown]
# Веса можно сохранить в файл, вместе с кривой обучения. Файл, в котором уже лежит модель с более высокой ELBO, останется прежним: для новой модели возьмите другое имя.

# %% tags=["save-weights"]
from utils import save_weights

check_current('networks')
save_weights('weights.npz', networks)

# %% [markdown]
# А потом загрузить: после перезапуска ядра выполните первую ячейку, упражнения, ячейку с функциями и ячейку ниже, убрав `#` перед нужной строкой, затем нарисуйте всё заново. Если ждать обучения некогда, а кодировщик у вас такой же, как в решении (два скрытых слоя, 256 и 128 нейронов, ReLU), загрузите веса, обученные заранее: `TRAINED_WEIGHTS`.

# %% tags=["load-weights"]
from utils import load_weights, TRAINED_WEIGHTS

check_current('networks')
# load_weights('weights.npz', networks)
# load_weights(TRAINED_WEIGHTS, networks)

# %% [markdown]
# ## Необязательно: обычный автокодировщик
#
# Этот раздел и следующий можно пропустить: баллов они не дают. Чтобы выполнить их, замените ниже `False` на `True`. Все четыре модели обучатся примерно за минуту.
#
# Обучим те же две сети как обычный автокодировщик. Его код — среднее $\mu(x)$, без шума, а функция потерь — только ошибка восстановления $-\log p(x \mid z)$, без KL-дивергенции. Сравните его с вариационным автокодировщиком, который вы обучили выше. Где лежат коды? Обратите внимание на масштаб осей. Что рисуют оба декодировщика по одним и тем же кодам $z \sim \mathcal N(0, I)$?

# %% tags=["autoencoder"]
train_more = False  # True: обучить и сравнить ещё четыре модели

from contextlib import contextmanager

from utils import plot_samples


@contextmanager
def fresh_weights():
    # внутри with у сетей новые начальные веса, после него — снова прежние
    before = lasagne.layers.get_all_param_values(networks)
    new = [*vae_encoder_mlp(input_x), vae_decoder_mlp(input_z, hidden_dim=HIDDEN_DIM)]
    lasagne.layers.set_all_param_values(networks, lasagne.layers.get_all_param_values(new))
    try:
        yield
    finally:
        lasagne.layers.set_all_param_values(networks, before)


def fit(objective, n_images=100000):
    # 100 000 изображений — это 2 эпохи на полном MNIST или 25 эпох на 4 000 изображений
    gradients = theano.grad(objective, params, disconnected_inputs='ignore')
    step = theano.function([input_x], objective, updates=lasagne.updates.adam(gradients, params))
    for epoch in range(n_images // len(X_train)):
        for batch in iterate_minibatches(X_train, batchsize=BATCH_SIZE,
                                         progress='Эпоха {}'.format(epoch + 1)):
            step(np.random.rand(*batch.shape) < batch)


if train_more:
    check_current('encode', 'decode', 'networks')
    codes = np.random.randn(14, HIDDEN_DIM).astype('float32')
    samples = {'VAE': decode(codes)}
    plot_hidden_space(X_test[:1000], encode, y_test[:1000], name='Вариационный автокодировщик, VAE')
    with fresh_weights():
        # то же p(x | z), но код — среднее, а не сэмпл
        fit(-T.mean(theano.clone(px_z.log_prob(input_x), replace={z: qz_x.loc})))
        mean = theano.function([input_x], qz_x.loc)
        plot_hidden_space(X_test[:1000], mean, y_test[:1000], name='Обычный автокодировщик, AE')
        samples['AE'] = decode(codes)
    plot_samples(samples)

# %% [markdown]
# ## Необязательно: оценка по $K$ сэмплам и вес KL-дивергенции
#
# Ту же модель можно обучать и с другой целью. Обозначим $w_k = \frac{p(x \mid z_k) p(z_k)}{q(z_k \mid x)}$, где $z_k \sim q(z \mid x)$. Сравним три цели при одном и том же числе эпох:
#
# * VAE: $\mathcal L = \mathbb E \log w_1$, как в упражнении 5;
# * [IWAE](https://arxiv.org/abs/1509.00519): $\mathcal L_K = \mathbb E \log \frac{1}{K} \sum_{k=1}^K w_k$ с $K = 5$. Среднее стоит под логарифмом, поэтому $\mathcal L \le \mathcal L_K \le \log p(x)$: эта нижняя оценка точнее;
# * [$\beta$-VAE](https://openreview.net/forum?id=Sy2fzU9gl): $\mathbb E \log p(x \mid z) - \beta \operatorname{KL}(q(z \mid x) \,\|\, p(z))$ с $\beta = 4$. Это тоже нижняя оценка, но более грубая, чем $\mathcal L$.
#
# По значениям их собственных целей модели сравнивать нельзя: это оценки разной точности. Поэтому таблица показывает для всех моделей одни и те же величины, средние по тестовым изображениям: ELBO, её слагаемые $\mathbb E \log p(x \mid z)$ и $\operatorname{KL}(q(z \mid x) \,\|\, p(z))$, а также $\mathcal L_{100}$, которая близка к $\log p(x)$. Числа одного столбца сравнимы.
#
# Какая модель лучше по ELBO, а какая по $\mathcal L_{100}$? Вспомните, чему равна разность $\log p(x) - \mathcal L$. На рисунках — облака кодов, по 25 сэмплов для каждого изображения. Как их размер связан с $\operatorname{KL}$?

# %% tags=["other-bounds"]
def log_terms(K):
    # log p(x | z) и log p(z) - log q(z | x): матрицы (batch, K), K сэмплов на изображение
    q = MultivariateNormalDiag(T.repeat(qz_x.loc, K, axis=0), T.repeat(qz_x.scale, K, axis=0))
    codes = q.sample()
    log_p = theano.clone(px_z.log_prob(input_x),
                         replace={z: codes, input_x: T.repeat(input_x, K, axis=0)})
    log_prior = -0.5 * T.sum(codes ** 2 + T.log(2 * np.pi), axis=1)
    return log_p.reshape((-1, K)), (log_prior - q.log_prob(codes)).reshape((-1, K))


def log_mean_exp(rows):
    # наибольшее вычитается, чтобы не все экспоненты обратились в ноль
    largest = T.max(rows, axis=1, keepdims=True)
    return largest[:, 0] + T.log(T.mean(T.exp(rows - largest), axis=1))


if train_more:
    check_current('encode', 'decode', 'networks')
    binary_test = np.random.rand(*X_test[:1000].shape) < X_test[:1000]
    log_p, minus_kl = log_terms(100)
    evaluate = theano.function([input_x], [
        T.mean(log_p + minus_kl), T.mean(log_p), -T.mean(minus_kl),
        T.mean(log_mean_exp(log_p + minus_kl))])
    print('{:12}{:>10}{:>14}{:>8}{:>10}'.format('', 'ELBO', 'E log p(x|z)', 'KL', 'L_100'))
    for name, K, beta in [('VAE', 1, 1), ('IWAE, K = 5', 5, 1), ('beta = 4', 1, 4)]:
        with fresh_weights():
            log_p, minus_kl = log_terms(K)
            fit(-T.mean(log_mean_exp(log_p + beta * minus_kl)))
            values = np.mean([evaluate(batch) for batch in iterate_minibatches(
                binary_test, batchsize=BATCH_SIZE)], axis=0)
            print('{:12}{:10.1f}{:14.1f}{:8.1f}{:10.1f}'.format(name, *values))
            plot_hidden_space(x_test_repeated, encode, name=name)

# %% [markdown] tags=["question-3"]
# ## Последний вопрос
#
# **Вопрос 3.** Чем отличается пространство представлений автокодировщика от пространства представлений вариационного автокодировщика? Почему возникло различие?
#
# ### BEGIN TODO
# *Ваш ответ:*
# ### END TODO
# ### BEGIN SOLUTION
# *Ответ.* Обычный автокодировщик штрафуют только за ошибку восстановления, и коды он располагает как угодно: облака классов бывают далеко друг от друга, масштаб произволен, между облаками — пустоты, точки которых декодируются во что-то непохожее на цифры. В необязательном разделе выше коды доходят до десятков, а по кодам из $p(z)$, которые лежат около нуля, декодировщик рисует по большей части похожие друг на друга нечёткие изображения. У вариационного автокодировщика коды всей выборки вместе распределены примерно как $\mathcal N(0, I)$: сосредоточены около нуля, пустот между классами гораздо меньше; близкие коды дают похожие изображения, и код, взятый из $p(z)$, обычно декодируется в правдоподобную цифру.
#
# Причин две. Слагаемое $\operatorname{KL}(q(z \mid x) \,\|\, p(z))$ притягивает каждое $q(z \mid x)$ к априорному распределению, и коды собираются около нуля. А код случаен: декодировщик должен восстанавливать объект по любой точке из области, где сосредоточено $q(z \mid x)$, поэтому каждому объекту отвечает не точка, а облако (это видно на рисунке с 25 сэмплами), и соседние облака вынуждены принадлежать похожим объектам.
# ### END SOLUTION
