void cvector_placeholder(void) {}
