"""What is to be computed: from a table's specification to cells and jobs."""
