"""Settings of the course for every nbgrader command and for formgrader; what is not here is nbgrader's default.

The gradebook is gradebook.db beside this file. No setting holds a path, so the directory can be moved.
"""

import os

c = get_config()

# the name of the course in the exchange and in formgrader; students' commands use it too
c.CourseDirectory.course_id = "gradient-lab"

# nbgrader releases every file beside a source notebook. The first four are its own; a source in percent format
# holds the solutions; a name with a leading dot is matched only by a pattern with one. The list also holds for
# what students submit, so recordings and timelines (.safetensors, .json) must stay off it: `autograder release`
# refuses them beside a source.
c.CourseDirectory.ignore = [".ipynb_checkpoints", "*.pyc", "__pycache__", "feedback", "*.py", ".*", "*.db"]

# kilobytes. A recording is 1 to 6 MB; a larger file is left out of a submission with no more than a warning, so
# this is far above; the whole directory then fails aloud at nbgrader's 100 MB.
c.CourseDirectory.max_file_size = 50_000

# Shared by all users of a hub: the administrator chooses it. Without the variable: /usr/local/share/nbgrader/exchange
if "NBGRADER_EXCHANGE_ROOT" in os.environ:
    c.Exchange.root = os.environ["NBGRADER_EXCHANGE_ROOT"]

# what students find where a solution was; pinned, since an untouched answer is known by it for ever
c.ClearSolutions.code_stub = {"python": "# YOUR CODE HERE\nraise NotImplementedError()"}
c.ClearSolutions.text_stub = "YOUR ANSWER HERE"

# seconds a cell may run in nbgrader's own kernel; its default of 30 is short for a training on a busy machine
c.Execute.timeout = 120

# a graded kernel has nothing to save: do not wait for it to leave by itself
c.Execute.shutdown_kernel = "immediate"

# an endless print would otherwise fill the gradebook's pages; nbgrader's own limit is 1,000 lines a cell
c.LimitOutput.max_lines = 200

# the kernel's sockets are local TCP, open to every user of a shared machine: encrypt them. ipc would do as well, but
# needs an absolute path that differs for each kernel; without one nbgrader waits 60 s for a kernel it cannot reach
c.KernelManager.transport_encryption = "auto"

# feedback and formgrader's pages show what students' cells put out, and a script in there would run as the reader
c.HTMLExporter.sanitize_html = True

# formgrader shows whoever marks an essay the rubric of the source notebook in front of it; feedback does not have it
c.HTMLExporter.preprocessors = ["autograder.rubrics.ShowRubrics"]

# what nobody has marked yet is no 0 on a page of feedback, and its sum is not final
c.GenerateFeedback.preprocessors = [
    "autograder.unmarked.GetGradesSoFar",
    "nbconvert.preprocessors.CSSHTMLHeaderPreprocessor",
]

# grading: first every released cell is put back in its place, so that a copied or deleted cell stops nothing
c.Autograde.sanitize_preprocessors = [
    "autograder.preprocessors.MendCells",
    "nbgrader.preprocessors.ClearOutput",
    "nbgrader.preprocessors.DeduplicateIds",
    "nbgrader.preprocessors.OverwriteKernelspec",
    "nbgrader.preprocessors.OverwriteCells",
    "nbgrader.preprocessors.CheckCellMetadata",
]

# then the checks look at evidence, instead of nbgrader's kernel, in which a submission can mark itself; the marks are
# written by nbgrader's own step, which ours only extends by the flag for a person
c.Autograde.autograde_preprocessors = [
    "autograder.preprocessors.GradeFromEvidence",
    "nbgrader.preprocessors.IgnorePattern",
    "nbgrader.preprocessors.LimitOutput",
    "autograder.preprocessors.SaveEvidenceGrades",
    "nbgrader.preprocessors.AssignLatePenalties",
    "nbgrader.preprocessors.CheckCellMetadata",
]

# processor time in seconds, of one cell and of a whole submission: training everything anew takes half a minute, and
# a submission with its recordings a few seconds; waiting may take three times as long
c.GradeFromEvidence.cell_seconds = 30
c.GradeFromEvidence.call_seconds = 10
c.GradeFromEvidence.cpu_seconds = 240
# torch needs 1; of one process, and of all that a submission starts together
c.GradeFromEvidence.memory_gb = 3
# of all files that a submission writes, and of one of them
c.GradeFromEvidence.disk_gb = 2
c.GradeFromEvidence.file_gb = 0.5
# at the same time, and of one of them
c.GradeFromEvidence.processes = 64
c.GradeFromEvidence.open_files = 256
