"""Functions, layers and optimizers as other people write them, and some that only look like it."""

import books


def _texts(text):
    """By the name above each."""
    parts = (part.split("\n", 1) for part in text.split("\n## ")[1:])
    return {name: source.strip() + "\n" for name, source in parts}


ACTIVATIONS = _texts("""
## by a mask
def relu(x):
    y = x.copy()
    y[x <= 0] = 0
    return y

## by maximum
def relu(x):
    return np.maximum(0, x)

## by where
def relu(x):
    return np.where(x > 0, x, 0)

## by product
def relu(x):
    return x * (x > 0)

## in place
def relu(x):
    x[x < 0] = 0
    return x

## by its absolute value
def relu(x):
    return (abs(x) + x) / 2

## as float64
def relu(x):
    y = np.zeros(x.shape)
    y[x > 0] = x[x > 0]
    return y

## itself where nothing is below 0
def relu(x):
    return x if np.all(x > 0) else np.maximum(x, 0)

## clipped
def relu(x):
    return np.clip(x, 0, 6)

## clipped far away
def relu(x):
    return np.clip(x, 0, 500)

## leaky
def relu(x):
    return np.where(x > 0, x, 0.01 * x)

## leaky by its class
class relu:
    leak = 0.0

    def forward(self, x):
        return np.where(x > 0, x, self.leak * x)

## of numbers only
def relu(x):
    return max(0, x)

## a sigmoid
def sigmoid(x):
    return 1 / (1 + np.exp(-x))

## a sigmoid that clips
def sigmoid(x):
    return 1 / (1 + np.exp(-np.clip(x, -30, 30)))

## a sigmoid that clips far away
def sigmoid(x):
    return 1 / (1 + np.exp(-np.clip(x, -500, 500)))

## a sigmoid by tanh
def sigmoid(x):
    return 0.5 * (1 + np.tanh(x / 2))

## a sigmoid in two
def sigmoid(x):
    return np.where(x >= 0, 1 / (1 + np.exp(-x)), np.exp(x) / (1 + np.exp(x)))

## its derivative
def sigmoid_prime(x):
    s = 1 / (1 + np.exp(-x))
    return s * (1 - s)

## its derivative by its value
def d_sigmoid(y):
    return y * (1 - y)

## a steeper one
def sigmoid(x):
    return 1 / (1 + np.exp(-1.0000001 * x))

## tanh
def tanh(x):
    return np.tanh(x)

## tanh by exp
def tanh(x):
    return (np.exp(x) - np.exp(-x)) / (np.exp(x) + np.exp(-x))

## softmax
def softmax(x):
    e = np.exp(x - np.max(x, axis=-1, keepdims=True))
    return e / np.sum(e, axis=-1, keepdims=True)

## softmax of all
def softmax(x):
    e = np.exp(x - np.max(x))
    return e / np.sum(e)

## softmax that overflows
def softmax(x):
    e = np.exp(x)
    return e / np.sum(e, axis=-1, keepdims=True)

## softmax by rows in two dimensions only
def softmax(x):
    if x.ndim == 2:
        e = np.exp(x - x.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)
    e = np.exp(x - x.max())
    return e / e.sum()

## softmax of columns
def softmax(x):
    e = np.exp(x - np.max(x, axis=0))
    return e / np.sum(e, axis=0)

## softmax that refuses
def softmax(x):
    assert x.shape[0] != 6
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)
""")

_OWN = _texts("""
## Relu that writes into dout
class Relu:

    def forward(self, x):
        self.mask = x <= 0
        out = x.copy()
        out[self.mask] = 0
        return out

    def backward(self, dout):
        dout[self.mask] = 0
        dx = dout
        return dx

## ReLU that keeps x
class ReLU:

    def forward(self, x):
        self.x = x
        self.y = np.maximum(x, 0)
        return self.y

    def backward(self, grad):
        return np.where(self.x > 0, grad, 0)

## ReLU that keeps a copy and a flag
class ReLU:
    seen = False

    def forward(self, x):
        self.x, self.seen, self.shape = (x.copy(), True, x.shape)
        return np.maximum(x, 0)

    def backward(self, d):
        if not self.seen:
            raise RuntimeError('not yet')
        d = d.copy()
        d[self.x <= 0] = 0
        return d

## ReLU that counts
class ReLU:
    calls = 0

    def forward(self, x):
        self.calls += 1
        self.positive = x > 0
        return np.maximum(x, 0)

    def backward(self, d):
        return np.where(self.positive, d, 0) * (self.calls > 0)

## Linear with other names
class Linear:

    def __init__(self, W, b):
        self.weight, self.bias = (W, b)

    def forward(self, inp):
        self.inp = inp
        return inp @ self.weight + self.bias

    def backward(self, d_out):
        self.d_weight, self.d_bias = (self.inp.T @ d_out, d_out.sum(axis=0))
        return d_out @ self.weight.T

## Linear that scales
class Linear:
    scale = 1.0

    def __init__(self, W, b):
        self.W, self.b = (W, b)

    def forward(self, x):
        self.x = x
        return (np.dot(x, self.W) + self.b) * self.scale

    def backward(self, dout):
        self.dW, self.db = (np.dot(self.x.T, dout), np.sum(dout, axis=0))
        return np.dot(dout, self.W.T)

## Dense with a row of biases
class Dense:

    def __init__(self, W, b):
        self.W, self.b = (W, b.reshape(1, -1))

    def forward(self, inputs):
        self.inputs = inputs
        self.output = np.dot(inputs, self.W) + self.b

    def backward(self, dvalues):
        self.dW = np.dot(self.inputs.T, dvalues)
        self.db = np.sum(dvalues, axis=0, keepdims=True)
        self.dinputs = np.dot(dvalues, self.W.T)

## a loss of one-hot rows only
class SoftmaxWithLoss:

    def forward(self, x, t):
        self.y, self.t = (softmax(x), t)
        return -np.sum(t * np.log(self.y + 1e-07)) / len(x)

    def backward(self, dout=1):
        return (self.y - self.t) * dout / len(self.t)

## one-hot rows read by argmax
class SoftmaxWithLoss:

    def forward(self, x, t):
        self.y = softmax(x)
        self.t = np.argmax(t, axis=1) if t.ndim == 2 else t
        return -np.mean(np.log(self.y[np.arange(len(x)), self.t] + 1e-07))

    def backward(self, dout=1):
        dx = self.y.copy()
        dx[np.arange(len(dx)), self.t] -= dout
        return dx / len(dx)

## a squared error
class MSELoss:

    def forward(self, y, t):
        self.y, self.t = (y, t)
        return np.mean((y - t) ** 2)

    def backward(self):
        return 2 * (self.y - self.t) / self.y.size

## a sigmoid with loss
class SigmoidWithLoss:

    def forward(self, x, t):
        self.t, self.y = (t, 1 / (1 + np.exp(-x)))
        return -np.mean(t * np.log(self.y + 1e-07) + (1 - t) * np.log(1 - self.y + 1e-07))

    def backward(self, dout=1):
        return (self.y - self.t) * dout / self.t.size
""")

# The text, the parameters of the constructor, and how many arguments forward has.
LAYERS = {
    "Relu": (books.VOLUME_1, (), 1),
    "Affine": (books.VOLUME_1, ("W", "b"), 1),
    "Relu of volume 2": (books.VOLUME_2, (), 1),
    "Affine of volume 2": (books.VOLUME_2, ("W", "b"), 1),
    "Sigmoid of volume 2": (books.FUNCTIONS + books.VOLUME_2, (), 1),
    "SoftmaxWithLoss": (books.FUNCTIONS + books.VOLUME_1, (), 2),
    "SoftmaxWithLoss of volume 2": (books.FUNCTIONS + books.VOLUME_2, (), 2),
    "Relu that writes into dout": (_OWN["Relu that writes into dout"], (), 1),
    "ReLU that keeps x": (_OWN["ReLU that keeps x"], (), 1),
    "ReLU that keeps a copy and a flag": (_OWN["ReLU that keeps a copy and a flag"], (), 1),
    "ReLU that counts": (_OWN["ReLU that counts"], (), 1),
    "Linear with other names": (_OWN["Linear with other names"], ("W", "b"), 1),
    "Linear that scales": (_OWN["Linear that scales"], ("W", "b"), 1),
    "Dense with a row of biases": (_OWN["Dense with a row of biases"], ("W", "b"), 1),
    "a loss of one-hot rows only": (books.FUNCTIONS + _OWN["a loss of one-hot rows only"], (), 2),
    "one-hot rows read by argmax": (books.FUNCTIONS + _OWN["one-hot rows read by argmax"], (), 2),
    "a squared error": (_OWN["a squared error"], (), 2),
    "a sigmoid with loss": (_OWN["a sigmoid with loss"], (), 2),
}

OPTIMIZERS = _texts("""
## SGD
class SGD:

    def __init__(self, lr=0.1):
        self.lr = lr

    def update(self, params, grads):
        for key in params.keys():
            params[key] -= self.lr * grads[key]

## SGD of lists
class SGD:

    def __init__(self, lr=0.1):
        self.lr = lr

    def update(self, params, grads):
        for i in range(len(params)):
            params[i] -= self.lr * grads[i]

## SGD that makes new arrays
class SGD:

    def __init__(self, lr=0.1):
        self.lr = lr

    def update(self, params, grads):
        for k in grads:
            params[k] = params[k] - self.lr * grads[k]

## SGD that decays
class SGD:

    def __init__(self, lr=0.1):
        self.lr = lr

    def update(self, params, grads):
        for key in params:
            params[key] -= self.lr * grads[key]
        self.lr *= 0.9

## SGD called step
class Optimizer:

    def __init__(self, learning_rate=0.1):
        self.learning_rate = learning_rate

    def step(self, params, grads):
        for k in params:
            params[k] -= self.learning_rate * grads[k]

## Momentum
class Momentum:

    def __init__(self, lr=0.1, momentum=0.9):
        self.lr, self.momentum, self.v = (lr, momentum, None)

    def update(self, params, grads):
        if self.v is None:
            self.v = {k: np.zeros_like(p) for k, p in params.items()}
        for k in params:
            self.v[k] = self.momentum * self.v[k] - self.lr * grads[k]
            params[k] += self.v[k]

## AdaGrad
class AdaGrad:

    def __init__(self, lr=0.1):
        self.lr, self.h = (lr, None)

    def update(self, params, grads):
        if self.h is None:
            self.h = {}
            for k, p in params.items():
                self.h[k] = np.zeros_like(p)
        for k in params:
            self.h[k] += grads[k] * grads[k]
            params[k] -= self.lr * grads[k] / (np.sqrt(self.h[k]) + 1e-07)

## Adam
class Adam:

    def __init__(self, lr=0.01, beta1=0.9, beta2=0.999):
        self.lr, self.beta1, self.beta2, self.iter, self.m, self.v = (lr, beta1, beta2, 0, None, None)

    def update(self, params, grads):
        if self.m is None:
            self.m, self.v = ({k: np.zeros_like(p) for k, p in params.items()} for _ in range(2))
        self.iter += 1
        lr_t = self.lr * np.sqrt(1 - self.beta2 ** self.iter) / (1 - self.beta1 ** self.iter)
        for k in params:
            self.m[k] += (1 - self.beta1) * (grads[k] - self.m[k])
            self.v[k] += (1 - self.beta2) * (grads[k] ** 2 - self.v[k])
            params[k] -= lr_t * self.m[k] / (np.sqrt(self.v[k]) + 1e-07)
""")


CHANGING = _texts("""
## a float of its module
LEAK = 0.0

def relu(x):
    return np.where(x > 0, x, LEAK * x)

## a number of its module
LEAK = 0

def relu(x):
    return np.where(x > 0, x, LEAK * x + 0.0)

## a function of its module
def half(x):
    return 0.0 * x

def relu(x):
    return np.where(x > 0, x, half(abs(x)))

## a built-in function
def relu(x):
    return (x + abs(x)) / 2

## what it calls np
def relu(x):
    return np.maximum(x, 0)

## a float of its class
class relu:
    leak = 0.0

    def forward(self, x):
        return np.where(x > 0, x, self.leak * abs(x))

## a method
class relu:

    def bend(self, x):
        return 0 * abs(x)

    def forward(self, x):
        return np.where(x > 0, x, self.bend(x))

## a method that its class had not
class Layer:

    def bend(self, x):
        return 0 * abs(x)

class relu(Layer):

    def forward(self, x):
        return np.where(x > 0, x, self.bend(x))

## a method of its own
class relu:

    def bend(self, x):
        return 0 * abs(x)

    def forward(self, x):
        return np.where(x > 0, x, self.bend(x))

## an attribute
class relu:

    def __init__(self):
        self.leak = 0.0

    def forward(self, x):
        return np.where(x > 0, x, self.leak * abs(x))

## an array that it scales by
class relu:

    def __init__(self):
        self.scale = np.ones(3)

    def forward(self, x):
        return np.maximum(x, 0) * self.scale
""")


LEFT = _texts("""
## changes the global calls
calls = 0

def relu(x):
    global calls
    calls += 1
    return np.maximum(x, 0)

## reads seen, which may change
seen = []

def relu(x):
    seen.append(x)
    return np.maximum(x, 0)

## calls print
def relu(x):
    print('relu')
    return np.maximum(x, 0)

## changes the attribute calls of another object
def relu(x):
    relu.calls = 1
    return np.maximum(x, 0)

## draws random numbers
def relu(x):
    return np.maximum(x, 0) + 0 * np.random.rand()

## uses time
import time

def relu(x):
    time.time()
    return np.maximum(x, 0)

## imports random
def relu(x):
    import random
    return np.maximum(x, random.random() * 0)

## is not step_product: the result has 0 where fastnn's has -0
def relu(x):
    return x * (x > 0) + 0.0 * x.sum()

## gives -0.0 where relu_backward gives 0.0
def relu(x, mask=np.array([[True, False, False], [False, True, False]])):
    return x * ~mask

## gives float32 where relu gives float64
def relu(x):
    y = np.zeros(x.shape, 'f')
    y[x > 0] = x[x > 0]
    return y

## calls save
def relu(x):
    np.save('/dev/null', x)
    return np.maximum(x, 0)

## calls tofile
def relu(x):
    x.tofile('/dev/null')
    return np.maximum(x, 0)

## calls set_printoptions
def relu(x):
    np.set_printoptions(precision=8)
    return np.maximum(x, 0)

## reads counted, which may change
counted = np.vectorize(lambda v: v if v > 0 else 0.0)

def relu(x):
    return counted(x)

## calls tick, which has a memory of its own
def tick(calls=[]):
    calls.append(1)

def relu(x):
    tick()
    return np.maximum(x, 0)

## calls bend, which has a memory of its own
def bend(x):
    return x * bend.gain
bend.gain = 1.0

def relu(x):
    return np.maximum(bend(x), 0)

## has a loop whose end its numbers decide
def relu(x):
    while x.min() < -1:
        x = x / 2
    return np.maximum(x, 0)

## calls eval
def relu(x):
    return eval('np.maximum(x, 0)')

## reads config, which may change
class Config:
    leak = 0
config = Config()

def relu(x):
    return np.maximum(x, 0) + config.leak

## reads nothing, which is not there
def relu(x):
    return np.maximum(x, nothing)
""")
