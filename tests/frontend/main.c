#include "onnx_bytes.h"

int main(void) {
    SRunner *r = srunner_create(suite_onnx_import());
    srunner_add_suite(r, suite_onnx_export());
    srunner_add_suite(r, suite_tensor_file());
    srunner_add_suite(r, suite_upgrade());
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
