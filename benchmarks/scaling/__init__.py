"""What training costs against cells, width, rows and epochs; and on paper, what larger work would.

part.py     the part: the sweep, the section, the chart
subject.py  made-up rows like digits, and one whole training of a stack
paper.py    the limits of larger work from operations and bytes: computed, not measured
"""
