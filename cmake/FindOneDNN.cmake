# oneDNN's C interface and the OpenMP runtime that it is built on: OneDNN::OneDNN. By hand, since oneDNN's own package file asks for
# OpenCL headers.
find_path(OneDNN_INCLUDE_DIR dnnl.h)
find_library(OneDNN_LIBRARY dnnl)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")  # clang would bring a second OpenMP runtime, libomp, into the program
  find_package(OpenMP QUIET COMPONENTS CXX)
endif()
include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(OneDNN REQUIRED_VARS OneDNN_LIBRARY OneDNN_INCLUDE_DIR OpenMP_CXX_FOUND)
if(OneDNN_FOUND AND NOT TARGET OneDNN::OneDNN)
  add_library(OneDNN::OneDNN UNKNOWN IMPORTED)
  set_target_properties(OneDNN::OneDNN PROPERTIES IMPORTED_LOCATION ${OneDNN_LIBRARY}
    INTERFACE_INCLUDE_DIRECTORIES ${OneDNN_INCLUDE_DIR} INTERFACE_LINK_LIBRARIES "${OpenMP_CXX_LIBRARIES}"
    INTERFACE_COMPILE_DEFINITIONS CMIR_ONEDNN)
endif()
