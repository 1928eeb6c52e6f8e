/* OHIF as conformance/dicom.md asks for it: same origin, the archive behind the service, results open without a question. */
window.config = {
  routerBasename: '/',
  extensions: ['/sightline/sightline.js'],
  modes: [],
  customizationService: {
    mode: {
      viewer: { rightPanels: { $unshift: ['sightline.panelModule.report'] } },
      '*': { 'panelSegmentation.disableEditing': { $set: true } },
    },
  },
  showStudyList: false,
  showWarningMessageForCrossOrigin: false,
  showLoadingIndicator: true,
  showErrorDetails: 'always',
  maxNumberOfWebWorkers: 2,
  disableConfirmationPrompts: true,
  defaultDataSourceName: 'dicomweb',
  dataSources: [
    {
      namespace: '@ohif/extension-default.dataSourcesModule.dicomweb',
      sourceName: 'dicomweb',
      configuration: {
        friendlyName: 'Archive',
        name: 'archive',
        wadoUriRoot: '/dicom-web',
        qidoRoot: '/dicom-web',
        wadoRoot: '/dicom-web',
        qidoSupportsIncludeField: false,
        imageRendering: 'wadors',
        thumbnailRendering: 'wadors',
        enableStudyLazyLoad: true,
        supportsFuzzyMatching: false,
        supportsWildcard: true,
        dicomUploadEnabled: false,
        singlepart: 'bulkdata,video,pdf',
        omitQuotationForMultipartRequest: true,
        bulkDataURI: {
          enabled: true,
          /* The archive names itself as the service reaches it; browsers reach it through the service. */
          transform: (uri) => uri.replace(/^https?:.*?(?=\/studies\/)/, '/dicom-web'),
          startsWith: '/dicom-web',
          prefixWith: '/dicom-web',
        },
      },
    },
  ],
};
