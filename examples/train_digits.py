"""Trains a small neural network to read handwritten digits: plain Python, nothing to install.

    binnacle launch -- python3 examples/train_digits.py             about a minute and a half
    binnacle launch -- python3 examples/train_digits.py --quick     a few seconds

1,797 images of 8 × 8 pixels (data/README.md says where they come from), one hidden layer, mini-batch gradient descent
with momentum, and a learning rate that is halved when the validation loss no longer falls.
"""

import argparse
import gzip
import json
import logging
import math
import random
import sys
import tempfile
from operator import mul
from pathlib import Path

try:
    import binnacle
except ImportError:
    sys.exit("Start this through `binnacle launch -- python3 %s`, which brings the module binnacle along." % sys.argv[0])

DATA = Path(__file__).resolve().parent / "data" / "digits.csv.gz"
PIXELS, CLASSES = 64, 10

log = logging.getLogger("digits")


def load_digits():
    """(pixels from 0 to 1, digit) of every image, in the order of the file."""
    with gzip.open(DATA, "rt", encoding="ascii") as file:
        rows = [[float(cell) for cell in line.split(",")] for line in file]
    return [([pixel / 16 for pixel in row[:PIXELS]], int(row[PIXELS])) for row in rows]


class Network:
    """64 pixels → hidden units (ReLU) → probabilities of the ten digits (softmax)."""

    def __init__(self, hidden, source):
        self.hidden_weights = self._layer(hidden, PIXELS, source)
        self.output_weights = self._layer(CLASSES, hidden, source)
        self.velocities = [[[0.0] * len(row) for row in layer] for layer in self.layers]

    @property
    def layers(self):
        return self.hidden_weights, self.output_weights

    @staticmethod
    def _layer(outputs, inputs, source):
        # The last weight of a row is its bias.
        scale = math.sqrt(2 / inputs)
        return [[source.gauss(0, scale) for _ in range(inputs)] + [0.0] for _ in range(outputs)]

    def forward(self, pixels):
        """The hidden activations and the probabilities."""
        image = pixels + [1.0]
        hidden = [max(0.0, sum(map(mul, row, image))) for row in self.hidden_weights]
        hidden.append(1.0)
        scores = [sum(map(mul, row, hidden)) for row in self.output_weights]
        top = max(scores)
        powers = [math.exp(score - top) for score in scores]
        total = sum(powers)
        return hidden, [power / total for power in powers]

    def gradients(self, batch):
        """Mean loss, share of right answers, and the mean gradient of each layer."""
        gradients = [[[0.0] * len(row) for row in layer] for layer in self.layers]
        of_hidden, of_output = gradients
        loss = right = 0.0
        for pixels, digit in batch:
            image = pixels + [1.0]
            hidden, probabilities = self.forward(pixels)
            loss -= math.log(max(probabilities[digit], 1e-12))
            right += probabilities[digit] == max(probabilities)
            errors = probabilities[:]
            errors[digit] -= 1.0
            back = [0.0] * (len(hidden) - 1)
            for row, error in enumerate(errors):
                of_output[row] = [sum_ + error * unit for sum_, unit in zip(of_output[row], hidden)]
                back = [sum_ + error * weight for sum_, weight in zip(back, self.output_weights[row])]
            for row, error in enumerate(back):
                if hidden[row] > 0.0:
                    of_hidden[row] = [sum_ + error * pixel for sum_, pixel in zip(of_hidden[row], image)]
        size = len(batch)
        mean = [[[value / size for value in row] for row in layer] for layer in gradients]
        return loss / size, right / size, mean

    def descend(self, gradients, rate, momentum=0.9):
        for layer, velocity, gradient in zip(self.layers, self.velocities, gradients):
            for row, slopes in enumerate(gradient):
                moved = [momentum * v - rate * g for v, g in zip(velocity[row], slopes)]
                velocity[row] = moved
                layer[row] = [weight + v for weight, v in zip(layer[row], moved)]

    def evaluate(self, examples):
        """Mean loss and share of right answers."""
        loss = right = 0.0
        for pixels, digit in examples:
            _, probabilities = self.forward(pixels)
            loss -= math.log(max(probabilities[digit], 1e-12))
            right += probabilities[digit] == max(probabilities)
        return loss / len(examples), right / len(examples)

    def save(self, path):
        """As JSON: a few kilobytes that every program reads."""
        weights = {"hidden": self.hidden_weights, "output": self.output_weights}
        path.write_text(json.dumps({"pixels": PIXELS, "classes": CLASSES, "weights": weights}), encoding="ascii")


def norm(gradients):
    return math.sqrt(sum(value * value for layer in gradients for row in layer for value in row))


def progress(epoch, epochs, done, total, loss):
    width = 30
    filled = width * done // total
    sys.stdout.write(
        "\repoch %3d/%d [%s%s] %3d%%  loss %.4f" % (epoch, epochs, "#" * filled, "." * (width - filled), 100 * done // total, loss)
    )
    sys.stdout.flush()


def train(options):
    source = random.Random(options.seed)
    examples = load_digits()
    source.shuffle(examples)
    held_back = len(examples) // 5
    validation, training = examples[:held_back], examples[held_back:]
    if options.quick:
        validation, training = validation[:60], training[:240]
    log.info("%d images to learn from, %d to check with", len(training), len(validation))

    network = Network(options.hidden, source)
    rate = options.lr
    best, worse_for, step = math.inf, 0, 0
    for epoch in range(1, options.epochs + 1):
        source.shuffle(training)
        for start in range(0, len(training), options.batch):
            batch = training[start : start + options.batch]
            loss, accuracy, gradients = network.gradients(batch)
            steepness = norm(gradients)
            network.descend(gradients, rate)
            binnacle.log(
                {"train/loss": loss, "train/accuracy": accuracy, "learning_rate": rate, "gradient_norm": steepness},
                step=step,
            )
            step += 1
            progress(epoch, options.epochs, min(start + options.batch, len(training)), len(training), loss)
        print()

        loss, accuracy = network.evaluate(validation)
        binnacle.log({"val/loss": loss, "val/accuracy": accuracy, "epoch": epoch}, step=step - 1, customized_step_key="epoch")
        log.info("epoch %d: validation loss %.4f, accuracy %.1f %%", epoch, loss, 100 * accuracy)
        if loss < best - 1e-4:
            best, worse_for = loss, 0
            continue
        worse_for += 1
        if worse_for >= options.patience and rate > options.lr / 1000:
            rate, worse_for = rate / 2, 0
            log.warning("validation loss has not fallen for %d epochs: learning rate halved to %.5f", options.patience, rate)
    log.info("done: best validation loss %.4f, last accuracy %.1f %%", best, 100 * accuracy)
    return network, {"val/loss": loss, "val/accuracy": accuracy}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=None, help="passes over the data (default 100; 3 with --quick)")
    parser.add_argument("--batch", type=int, default=24, help="images a step (default %(default)s)")
    parser.add_argument("--hidden", type=int, default=32, help="hidden units (default %(default)s)")
    parser.add_argument("--lr", type=float, default=0.05, help="learning rate (default %(default)s)")
    parser.add_argument("--patience", type=int, default=6, help="epochs without progress before the rate is halved")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="a sixth of the data, for a look")
    options = parser.parse_args()
    if options.epochs is None:
        options.epochs = 3 if options.quick else 100
    if min(options.epochs, options.batch, options.hidden) < 1:
        parser.error("epochs, batch and hidden must be at least 1")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")

    with binnacle.init(project="digits", config=vars(options), tags=["example"]):
        network, results = train(options)
        # A folder that stays: the model is sent in the background, or later if no collector answers now.
        path = Path(tempfile.mkdtemp(prefix="digits-")) / "digits.json"
        network.save(path)
        binnacle.log_model("digits", path, metadata=results)


if __name__ == "__main__":
    main()
