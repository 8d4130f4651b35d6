"""Learn a reader's taste from ten headlines that were liked or not: tasks of text, each of another length.

    python examples/own_text.py            # under a minute
    python examples/own_text.py --steps 20

Which words belong together is the same for all readers and is meta-learned; most words of a topic aren't in the ten.
"""

import argparse

import torch
from torch import nn

import fastadapt as fa

LINES = """goal match league striker coach referee stadium trophy | senate vote ballot minister treaty reform law
engine sedan gearbox brake hybrid tyre garage motorway | recipe oven butter garlic simmer pastry roast flour
orbit rocket comet telescope lunar probe galaxy launch | violin concert chorus melody encore album tenor drummer
vaccine clinic surgeon fever dosage therapy nurse scan | harvest tractor barley cattle orchard soil plough barn
novel poet chapter author sonnet library fable critic | storm flood drought frost thunder gale hail blizzard"""
TOPICS = [topic.split() for line in LINES.split("\n") for topic in line.split("|")]
NUMBER = {word: 1 + i for i, word in enumerate(LINES.replace("|", " ").split())}  # 0 fills short headlines


def sample(rng):
    """Draw one reader: ten headlines to learn from, twenty to be judged on."""
    liked, rows, labels = set(rng.permutation(len(TOPICS))[: len(TOPICS) // 2].tolist()), [], []
    for i in range(30):
        topic = int(rng.choice([t for t in range(len(TOPICS)) if (t in liked) == (i % 2 == 0)]))
        words = rng.choice(TOPICS[topic], rng.integers(2, 6), replace=False)
        rows.append(torch.tensor([NUMBER[word] for word in words.tolist()]))
        labels.append(int(topic in liked))
    x, y = nn.utils.rnn.pad_sequence(rows, batch_first=True), torch.tensor(labels)
    return fa.Task(support=(x[:10], y[:10]), query=(x[10:], y[10:]))


class Bag(nn.Module):
    """Average the embeddings of the words of a headline, and say whether it is liked."""

    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(len(NUMBER) + 1, 16), nn.Linear(16, 2)

    def forward(self, x):
        there = (x > 0).unsqueeze(-1)
        return self.head((self.embed(x) * there).sum(1) / there.sum(1))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=500, help="outer steps (default: %(default)s)")
    args = parser.parse_args()
    torch.manual_seed(0)
    learner = fa.MAML(Bag(), fa.cross_entropy, rule=fa.SGD(lr=1.0), steps=3)
    fa.meta_train(learner, sample, fa.Training(steps=args.steps, meta_batch=8, lr=1e-2, log_every=100))
    print(fa.evaluate(learner, sample, fa.Protocol("readers-v1", tasks=300)))


if __name__ == "__main__":
    main()
