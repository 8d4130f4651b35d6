"""One file for each command of the command line."""

COMMANDS = {
    "train": "meta-train a preset or on your own images, or go on with a run",
    "check": "list what is wrong with a folder of images or a table, and what it is enough for",
    "embed": "write the features that a backbone gives for a folder of images",
    "evaluate": "measure a run on new tasks, with intervals",
    "compare": "train methods on the same tasks within the same budget, and draw how they stand",
    "reproduce": "train published runs and compare with the papers' numbers",
    "adapt": "adapt a run to your own samples and save the predictor",
    "predict": "answer for files with a saved predictor",
    "verify": "compare two faces by a run on faces",
    "identify": "rank the people of a gallery by likeness to images of faces",
    "show": "train, measure and draw what a learned start does best: a photograph, speech",
    "fit": "fit a photograph or a sound of yours from a learned start and from a random one",
    "report": "draw the pictures of a run, alone or against others",
    "serve": "serve trained runs: a REST API and a page that uses it",
    "demo": "draw in the browser and watch a model learn from it",
    "list": "show the presets and the runs",
    "doctor": "check the installation, the data and the machine",
    "completion": "print a script with which the shell completes all of this",
}
